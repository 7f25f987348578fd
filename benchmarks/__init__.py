"""Measures taskflowx against what a person would use instead: `python -m benchmarks`, from the checkout.

`workloads` are the flows, `loops` what a person would write by hand for the same tasks, `rows` what is
measured, `harness` how, and `record` what is kept of it. What needs an interpreter of its own is in `child`,
what needs an environment of its own in `peers`.
"""
