"""Whether a student's answer goes out: the policy, what the client wanted, and hallucinations.

Not here: asking for it (``students.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loop_pipeline.gateway.asking.answer_forms import AnswerForms
from loop_pipeline.gateway.asking.hidden_values import given_back, not_to_be_given
from loop_pipeline.gateway.asking.request_plan import Plan, Verdict
from loop_pipeline.gateway.formats.exchange import Request
from loop_pipeline.labels.hallucination.answer_check import check_answer
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.traces.messages import request_text, source_text, template_hash

CHANCE = 0.5


def judged(
    plan: Plan, request: Request, answer: Answer, tiers: Tiers, forms: AnswerForms
) -> Verdict:
    """Settle by the policy that decided, then hold what would be served against all the rest.

    Args:
        plan: with a decision for the student.
        request: what the client wanted.
        answer: the student's.
        tiers: of the hallucination check.
        forms: what the answers to a template have in common; learns from sure ones.
    """
    if plan.router is None or plan.decision is None:
        return Verdict("escalate", plan.reason)
    source = source_text(plan.messages)
    settled = plan.router.settle(
        plan.decision,
        answer.text,
        answer.token_logprobs,
        plan.contract,
        finish_reason=answer.finish_reason,
        request_text=source,
        tokens_out=answer.tokens_out,
    )
    verdict = Verdict(settled.action, settled.reason, settled.score, settled.threshold)
    if settled.action == "escalate":
        return verdict
    # A slip of form is made good before it goes out.
    goes_out = answer.text if settled.text is None else settled.text
    unfit = not_to_be_given(
        goes_out,
        plan.values,
        asked=request_text(plan.messages),
        raw=request_text(request.messages),
        contract=plan.contract,
    )
    if (unlike := unfit or _unwanted(request, plan, answer)) is not None:
        return replace(verdict, action="escalate", reason=unlike)
    flag = _checked(plan, answer, source, tiers, forms)
    if flag["flag"]:
        why = next(iter(flag["reasons"]), "unsupported")
        return replace(verdict, action="escalate", reason=f"hallucination: {why}", flag=flag)
    return replace(verdict, flag=flag, text=settled.text)


def _unwanted(request: Request, plan: Plan, answer: Answer) -> str | None:
    """What the client asked for and the frontier would have kept to; None if the answer does."""
    most = request.max_tokens
    if most is not None and answer.tokens_out > most:
        return f"it has {answer.tokens_out} tokens, the client wants at most {most}"
    text = given_back(answer.text, plan.values)
    for place, stop in enumerate(request.stop):
        if stop and stop in text:
            return f"it holds stop string {place + 1} of the client"
    return None


def _checked(
    plan: Plan, answer: Answer, source: str, tiers: Tiers, forms: AnswerForms
) -> dict[str, Any]:
    """The verdict that the offline check would give, without the classifier of tier T2."""
    template = template_hash(plan.messages)
    if plan.contract is not None and plan.contract.get("kind") == "text":
        forms.saw(template, answer.text, source)
    trace = {
        "messages": plan.messages,
        "context": None,
        "contract": plan.contract,
        "output": answer.text,
        "finish_reason": answer.finish_reason,
        "template_hash": template,
        # Quantiles take time, and tell only of answers that nothing else can be told of.
        "logprobs": answer.logprobs if plan.contract is None else None,
    }
    skill = tiers.detector.interval[0] > CHANCE
    return check_answer(trace, habit=forms.habit(template), tiers=tiers, wording=skill)
