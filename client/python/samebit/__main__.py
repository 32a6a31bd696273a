"""python -m samebit convert IN OUT: values from one kind of file to another (.pt, .npz, .npy, .safetensors)."""
import sys

from samebit.files import load, save


def main() -> int:
    if len(sys.argv) != 4 or sys.argv[1] != "convert":
        print(__doc__, file=sys.stderr)
        return 2
    values = load(sys.argv[2])
    save(sys.argv[3], values)
    print(f"{sys.argv[3]}: {len(values)} values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
