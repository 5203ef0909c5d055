"""A reward program: the share of the letter e in an answer. TRL's side imports the function."""

import json
import sys


def share_of_e(completion):
    return completion.count("e") / (len(completion) + 1)


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({"id": asked["id"], "reward": share_of_e(asked["completion"])}), flush=True)
