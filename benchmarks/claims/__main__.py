"""`make bench` and `make numbers`."""

import sys

from benchmarks.claims.run import bench
from benchmarks.claims.schema import RecordError
from benchmarks.claims.text import write_numbers


def main(words: list[str]) -> int:
    try:
        match words:
            case ["run", name, *options]:
                return bench(name, options)
            case ["numbers"]:
                return write_numbers()
    except (RecordError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("python -m benchmarks.claims run NAME [its options], or numbers", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
