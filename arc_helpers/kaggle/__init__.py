"""From the repository to a kernel on Kaggle: bundle, push, submission mode, rehearsal, planner."""
