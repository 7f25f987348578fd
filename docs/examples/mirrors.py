"""`ForEach`: a retry that tries one value after another until its flow succeeds with one of them.

After the run, storage has its history: each attempt, and its outcome.
"""

from __future__ import annotations

from taskflowx import as_task, linear, load, retry

ONLINE = {"three.example": "4d2f"}  # the mirrors that answer, with the checksum of what they have


@as_task(provides="checksum")
def fetch(mirror: str) -> str:
    print("ask", mirror)
    if mirror not in ONLINE:
        raise ConnectionError(f"{mirror} does not answer")
    return ONLINE[mirror]


def main() -> None:
    mirrors = retry.ForEach(["one.example", "two.example", "three.example"], name="mirrors", provides="mirror")
    engine = load(linear("download", fetch, retry=mirrors))
    engine.run()
    print("got", engine.storage.fetch("checksum"), "from", engine.storage.fetch("mirror"))

    for tried, failures in engine.storage.get_retry_history("mirrors"):
        reasons = [failure.exception_str for failure in failures.values()]
        print(f"{tried}:", reasons[0] if reasons else "worked")


if __name__ == "__main__":
    main()

# Output:
#   ask one.example
#   ask two.example
#   ask three.example
#   got 4d2f from three.example
#   one.example: one.example does not answer
#   two.example: two.example does not answer
#   three.example: worked
