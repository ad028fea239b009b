# `make` alone lists the targets. Linux and macOS; Python 3.11 or 3.12.
SHELL := bash
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
ARC := $(BIN)/python -m arc_helpers
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
DATA ?= arcagi1/evaluation
SUB ?= artifacts/submission/submission.json
K ?= arc-multi-lora-ttt-t4x2
KAGGLE := $(BIN)/python -m arc_helpers.kaggle
CLAIMS := $(BIN)/python -m benchmarks.claims

# Picked by a rule fixed before any result was seen: the ARC-AGI-1 evaluation tasks whose visible grids are
# all at most 12 x 12, the first 12 of them by sha256 of the id (tests/test_frame.py applies it again).
DEMO := artifacts/demo
DEMO_TASKS := 8b28cd80,ed74f2f2,a59b95c0,ac605cbb,48f8583b,5d2a5c43,e133d23d,fc754716,aa300dc3,e872b94a,73182012,e345f17b

.PHONY: speedrun kaggle-zip versions help setup lock demo chaos data lab run notebooks report gallery submission score validate bench bench-check numbers models test test-fast lint format sync clean kaggle-bundle kaggle-rehearsal kaggle-push kaggle-status kaggle-logs kaggle-output kaggle-submit

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  make run NB=02 P="k=4 steps=20"     any parameter of a notebook; NB=02 P=--help lists them'

setup: $(VENV)/.installed ## Create .venv and install everything (every other target does this when it is missing)

$(VENV)/.installed: pyproject.toml requirements/constraints.txt requirements/lock.txt
	@[ -x $(BIN)/python ] && exit; \
	for python in $(or $(PYTHON),python3.11 python3.12 python3); do \
		$$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
			&& exec $$python -m venv $(VENV); \
	done; \
	echo "No Python 3.11 or 3.12 with its venv module was found: install one, or give its path: make PYTHON=..." >&2; \
	exit 1
	@echo "Installing into $(VENV): some minutes, once."
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1,<27'
	@# each file by its hash but torch's, whose CPU and CUDA builds are other files of one version
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt 'torch==2.13.*'
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

LOCK := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock: setup ## Write requirements/lock.txt and kaggle/wheels.lock anew, after a change of pyproject.toml or a pin
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml requirements/lock.in --extra gpu --extra track --extra liza --group dev \
		-c requirements/constraints.txt --override requirements/lock.without -o requirements/lock.txt
	$(LOCK) --no-deps kaggle/wheels.txt -o kaggle/wheels.lock

demo: setup ## Solve 12 ARC tasks from start to score: 5 minutes on 2 CPU cores, no GPU, no network
	@echo 'First way: an adapter a task, trained on its demonstrations in context'
	$(ARC) run 02_multilora_ttt profile=laptop fresh=true out_dir=$(DEMO)/in_context task_ids=$(DEMO_TASKS) \
		steps=100 frontier=0 control=false
	@echo 'Second way: one copy of the base learns all tasks together, in single pairs'
	$(ARC) run 02_multilora_ttt profile=laptop fresh=true out_dir=$(DEMO)/pairs task_ids=$(DEMO_TASKS) \
		joint_steps=80 form=pairs steps=0 frontier=0 control=false
	@echo 'The two submissions merged, checked, and compared with the answers'
	$(ARC) merge $(DEMO)/in_context/submission.json $(DEMO)/pairs/submission.json --out $(DEMO)/submission.json
	$(ARC) validate $(DEMO)/submission.json --data arcagi1/evaluation --partial
	$(ARC) score $(DEMO)/submission.json --data arcagi1/evaluation --partial --out $(DEMO)/scores.json \
		--figures $(DEMO)/figures
	@echo
	@echo 'Look at  $(DEMO)/figures/                            each task: attempts, truth, wrong cells'
	@echo '         $(DEMO)/submission.json                     two attempts for every test input'
	@echo '         $(DEMO)/in_context/02_multilora_ttt.ipynb   the notebook as it ran; pairs/ has the second'
	@echo '         $(DEMO)/in_context/summary.json             the numbers (docs/results.md explains each file)'
	@echo 'Next     make lab                               the notebooks in JupyterLab'
	@echo '         make run NB=02 P="k=8 steps=100"       the same with other values'

data: setup ## Write the ARC sets as files: data/<set>/<id>.json
	$(ARC) data

lab: setup ## Open START_HERE in JupyterLab, with copies of all notebooks in work/
	@mkdir -p work; for one in $(NOTEBOOKS); do \
		copy=work/$$(basename $$one); \
		if [ ! -e $$copy ]; then cp $$one $$copy; \
		elif [ $$one -nt $$copy ]; then echo "$$copy is older than $$one: remove or rename it to get the new one"; fi; \
	done
	$(BIN)/python -m jupyter lab --LabApp.default_url=/lab/tree/work/START_HERE.ipynb \
		--ContentsManager.pre_save_hook=arc_helpers.runs.notebook.forget_python $(P)

run: setup ## Run one notebook headless: NB=02 P="k=4 steps=20"
	$(ARC) run $(NB) $(P)

notebooks: setup ## Run all notebooks headless into artifacts/<profile>/: PROFILE=tiny
	@for notebook in $(filter-out START_HERE,$(basename $(notdir $(NOTEBOOKS)))); do \
		echo "== $$notebook"; \
		$(ARC) run $$notebook profile=$(or $(PROFILE),tiny) out_dir=artifacts/$(or $(PROFILE),tiny)/$$notebook || exit 1; \
	done

report: setup ## Make one offline HTML site of all runs: RUNS=artifacts, into its folder report/
	$(ARC) report $(or $(RUNS),artifacts)

gallery: setup ## Write docs/gallery/, the executed notebooks as pages for a code host: RUNS=artifacts/gallery
	$(ARC) report $(or $(RUNS),artifacts/gallery) --gallery --out docs/gallery

submission: setup ## Answer every task of DATA=arcagi1/evaluation: PROFILE=laptop P="solutions=..."
	$(ARC) run 02_multilora_ttt profile=$(or $(PROFILE),laptop) data_dir=$(DATA) out_dir=artifacts/submission \
		max_tasks=0 max_side=0 $(P)
	$(ARC) validate artifacts/submission/submission.json --data $(DATA)

score: setup ## Fill rows of the score table: SET=arcagi1/evaluation P="--max-side 0 --rows all"
	$(CLAIMS) run score $(addprefix --set ,$(SET)) $(P)

speedrun: setup ## Solve SET=arcagi1/evaluation from nothing on two cores: CORE_MINUTES=360 SEED=0 RECORD=records/...
	$(BIN)/python benchmarks/speedrun.py --core-minutes $(or $(CORE_MINUTES),360) --seed $(or $(SEED),0) \
		$(addprefix --set ,$(SET)) $(addprefix --record ,$(RECORD)) $(P)

validate: setup ## Check a submission: SUB=artifacts/submission/submission.json DATA=arcagi1/evaluation
	$(ARC) validate $(SUB) --data $(DATA)

chaos: setup ## Kill, damage and mutate everything around the runs, by a seed: P="--seed 3 --kills 400"
	$(CLAIMS) run chaos $(P)

bench: setup ## Measure a claim and write its records: NAME=demo (docs/numbers.md has the commands)
	$(CLAIMS) run $(or $(NAME),$(error NAME is missing: one of $(basename $(notdir $(wildcard benchmarks/*.py))))) $(P)

bench-check: setup ## Run each recorded command of at most 5 minutes again, and compare with its record
	$(BIN)/python -m pytest -m bench

numbers: setup ## Write docs/numbers.md and the README's table from the records in benchmarks/results/
	$(CLAIMS) numbers

models: setup ## Show the models there are; make one of them: NAME=smollm2-135m
	$(ARC) models $(if $(NAME),get $(NAME),list)

kaggle-bundle: setup ## Wheels, model and a folder a kernel for Kaggle's Python, into kaggle/build/
	$(KAGGLE) bundle $(P)

kaggle-zip: setup ## Make upload/ for submitting by hand: dataset.zip, notebooks, a page of six clicks
	$(KAGGLE) zip $(P)

kaggle-rehearsal: setup ## Run a kernel as Kaggle does, without network: 5 scenarios, 2 mount layouts
	$(KAGGLE) rehearsal $(P)

kaggle-push: setup ## Send the dataset and K=kernel, which starts: P=--dry-run only says what would be sent
	$(KAGGLE) push $(K) $(P)

kaggle-status: setup ## Whether K=kernel runs, is done or has failed
	$(KAGGLE) status $(K)

kaggle-logs: setup ## What K=kernel printed
	$(KAGGLE) logs $(K)

kaggle-output: setup ## Fetch what K=kernel wrote, into artifacts/kaggle/
	$(KAGGLE) output $(K)

kaggle-submit: setup ## Submit K=kernel to its competition, one of the day's: P='--version 3 --message "k=4"'
	$(KAGGLE) submit $(K) $(P)

test: lint ## Lint and run all tests (those in a browser, too, where chromium is installed)
	$(BIN)/python -m pytest -n 2 --dist worksteal

versions: setup ## Quick tests on Python 3.11, 3.12, 3.13, oldest and newest torch and transformers (CPU builds)
	$(BIN)/python benchmarks/versions.py $(P)

test-fast: setup ## Run the tests that run no notebook
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not notebook and not browser and not bench"

lint: setup ## Check code, types and notebooks without changing them
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify --keep-id $(NOTEBOOKS))

format: setup sync ## Format code and notebooks in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

sync: setup ## Bring each notebook and its .py twin in step (the newer one wins) and clear outputs
	$(if $(NOTEBOOKS),$(BIN)/jupytext --sync $(NOTEBOOKS))
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id --extra-keys metadata.language_info $(NOTEBOOKS))

clean: ## Remove caches and artifacts/, all runs with it; never models/ or data/
	rm -rf artifacts kaggle/build wandb .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find arc_helpers tests benchmarks notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
