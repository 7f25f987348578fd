"""Time: a crawler that asks each host once a second, waits ten seconds at most, and waits as long as the host asks for.

`default_limits` names what the requests share, and `rates=` of the engine says how often that is used. The clock is one
of tests, so that the program waits without taking time.
"""

from __future__ import annotations

from taskflowx import Failure, Task, checkpoint, retry, run, testing, unordered

CLOCK = testing.VirtualClock()
#: what the hosts do, one request after another: seconds until they answer, or an error
WEB: dict[str, list[float | Exception]] = {
    "a.example/1": [0],
    "a.example/2": [ConnectionError("closed"), 0],
    "b.example/1": [retry.RetryAfter(30, "429 Too Many Requests"), 0],
    "b.example/2": [60, 0],
}


class Fetch(Task):
    default_limits = ("host:{host}",)
    default_timeout = 10
    default_retry = retry.Times(3, delay=2, backoff=2)

    def execute(self, host: str) -> str:
        print(f"{CLOCK.monotonic():2g} s: ask for {self.name}")
        answer = WEB[self.name].pop(0)
        if isinstance(answer, Exception):
            raise answer
        CLOCK.advance(answer)
        checkpoint()  # raises when the ten seconds are over
        return f"page of {host}"

    def revert(self, result: str | Failure) -> None:
        if isinstance(result, Failure):
            print("     ", result.exception_str)


def main() -> None:
    pages = [Fetch(address, provides=address, inject={"host": address.partition("/")[0]}) for address in WEB]
    found = run(unordered("pages", *pages), rates={"host:*": (1, 1.0)}, clock=CLOCK)
    print("pages:", len([address for address in WEB if address in found]))


if __name__ == "__main__":
    main()

# Output:
#    0 s: ask for a.example/1
#    0 s: ask for b.example/1
#         429 Too Many Requests
#    1 s: ask for a.example/2
#    1 s: ask for b.example/2
#         Task 'b.example/2' has exceeded its time limit of 10 seconds (attempt 1 of 3)
#         closed
#   61 s: ask for b.example/1
#   63 s: ask for a.example/2
#   63 s: ask for b.example/2
#   pages: 4
