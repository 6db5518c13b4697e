"""The loop: traces -> labels -> task groups -> a student -> its server -> a routing policy.

A team's own LLM traffic becomes a cheaper model of their own. The folders are the stages; ``defs``
holds what Dagster knows of them, ``store`` is where the loop remembers.
"""
