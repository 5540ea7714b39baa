"""One made-up row of what each tool exports, literally in its shape, by the name of the layout that reads it.

A layout that is read as several kinds stands once; its row can be read as each of them.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

QUESTION, ANSWER, OTHER = "Why is the sky blue?", "Air scatters blue light most.", "It reflects the sea."
USER = {"role": "user", "content": QUESTION}
ASSISTANT = {"role": "assistant", "content": ANSWER}


def open_webui(rating: Any = 1, **data: Any) -> dict[str, Any]:
    """A rated answer that has a sibling."""
    messages = {
        "m1": {"id": "m1", "parentId": None, "childrenIds": ["m2", "m3"], **USER, "timestamp": 1736000000},
        "m2": {"id": "m2", "parentId": "m1", "childrenIds": [], **ASSISTANT, "model": "llama3:8b", "done": True},
        "m3": {"id": "m3", "parentId": "m1", "childrenIds": [], "role": "assistant", "content": OTHER, "model": "phi4"},
    }
    chat = {"id": "", "models": ["llama3:8b"], "history": {"messages": messages, "currentId": "m2"}, "messages": []}
    rated = {"rating": rating, "model_id": "llama3:8b", "sibling_model_ids": ["phi4"], "reason": "accurate_information"}
    return {
        "id": "f1",
        "user_id": "u1",
        "version": 0,
        "type": "rating",
        "data": {**rated, "comment": "", "tags": [], "details": {"rating": 8}, **data},
        "meta": {"arena": False, "model_id": "llama3:8b", "message_id": "m2", "message_index": 2, "chat_id": "c1"},
        "snapshot": {"chat": {"id": "c1", "user_id": "u1", "title": "Sky", "chat": chat, "updated_at": 1736000009}},
        "created_at": 1736000010,
        "updated_at": 1736000010,
    }


def open_webui_chat(rating: Any = 1) -> dict[str, Any]:
    """A chat in which an answer was rated."""
    chat = deepcopy(open_webui()["snapshot"]["chat"])
    chat["chat"]["history"]["messages"]["m2"]["annotation"] = {"rating": rating, "details": {"rating": 8}}
    return {**chat, "created_at": 1736000001, "archived": False, "meta": {}, "pinned": False}


def langfuse(*scores: dict[str, Any]) -> dict[str, Any]:
    """A trace as the API writes it."""
    trace = {"id": "t1", "timestamp": "2026-01-01T00:00:00Z", "name": "chat", "userId": "u1", "sessionId": "s1"}
    written = [
        {"id": "s", "traceId": "t1", "observationId": None, "source": "API", "comment": None, **score}
        for score in scores
    ]
    io = {"input": {"messages": [USER]}, "output": ASSISTANT}
    return {**trace, "release": None, "tags": [], "public": False, **io, "scores": written, "observations": []}


def thumb(value: float, **beside: Any) -> dict[str, Any]:
    """A score of Langfuse that is a thumb."""
    return {"name": "user-feedback", "dataType": "BOOLEAN", "value": value, "stringValue": str(bool(value)), **beside}


def langfuse_table(**scores: Any) -> dict[str, Any]:
    """A row of Langfuse's table of traces: scores are columns."""
    first = {"id": "t1", "timestamp": "2026-01-01T00:00:00Z", "name": "chat", "userId": None, "sessionId": None}
    more = {"bookmarked": False, "public": False, "tags": [], "level": "DEFAULT", "latency": 1.2, "totalCost": 0.01}
    return {**first, **more, "input": QUESTION, "output": ANSWER, "metadata": {}, "comments": [], **scores}


def langsmith(stats: Any = None, **more: Any) -> dict[str, Any]:
    """A run with statistics of its feedback."""
    run = {"id": "r1", "name": "chain", "run_type": "chain", "session_id": "p1", "status": "success", "error": None}
    io = {"inputs": {"question": QUESTION}, "outputs": {"output": ANSWER}}
    return {**run, **io, "feedback_stats": stats, "reference_example_id": None, **more}


def stats(avg: Any = None, **values: int) -> dict[str, Any]:
    """The statistics of one key of LangSmith's feedback."""
    return {"n": 1, "avg": avg, "stdev": 0.0, "errors": 0, "comments": [], "values": values}


def mlflow(*assessments: dict[str, Any]) -> dict[str, Any]:
    """A trace of MLflow with an inner step."""
    source = {"source_type": "HUMAN", "source_id": "ann@example.com"}
    written = [{"assessment_id": "a", "trace_id": "tr-1", "source": source, **entry} for entry in assessments]
    inputs, outputs = json.dumps({"question": QUESTION}), json.dumps(ANSWER)
    attributes = {"mlflow.spanInputs": inputs, "mlflow.spanOutputs": outputs, "mlflow.spanType": '"CHAIN"'}
    root = {"trace_id": "dHI=", "span_id": "q80=", "parent_span_id": None, "name": "chat", "attributes": attributes}
    inner = {"trace_id": "dHI=", "span_id": "7w==", "parent_span_id": "q80=", "name": "search", "attributes": {}}
    preview = {"request_preview": "Why", "response_preview": "Air"}
    info = {"trace_id": "tr-1", "state": "OK", "tags": {}, **preview, "assessments": written}
    return {"info": info, "data": {"spans": [inner, root]}}


def assessment(name: str, value: Any, **more: Any) -> dict[str, Any]:
    """Feedback on a trace of MLflow."""
    return {"assessment_name": name, "feedback": {"value": value}, "valid": True, **more}


def phoenix(*annotations: dict[str, Any]) -> dict[str, Any]:
    """A span of Phoenix as its command line writes it."""
    context = {"trace_id": "t1", "span_id": "s1"}
    attributes = {"input.value": QUESTION, "output.value": ANSWER, "openinference.span.kind": "CHAIN"}
    span = {"id": "U3Bhbjox", "name": "chat", "context": context, "span_kind": "CHAIN", "parent_id": None}
    written = [{"id": "a", "annotator_kind": "HUMAN", "span_id": "s1", "user_id": "u1", **note} for note in annotations]
    return {**span, "status_code": "OK", "attributes": attributes, "events": [], "annotations": written}


def annotation(name: str, label: str | None = None, score: float | None = None) -> dict[str, Any]:
    """An annotation of Phoenix."""
    return {"name": name, "result": {"label": label, "score": score, "explanation": None}}


def inspect_sample(**scores: Any) -> dict[str, Any]:
    """A sample of a log of Inspect."""
    messages = [{"id": "1", "source": "input", **USER}, {"id": "2", "source": "generate", **ASSISTANT, "model": "m"}]
    output = {"model": "m", "choices": [{"message": ASSISTANT, "stop_reason": "stop"}], "completion": ANSWER}
    written = {name: {"value": value, "answer": ANSWER, "explanation": None} for name, value in scores.items()}
    first = {"id": 1, "epoch": 1, "input": QUESTION, "target": "scattering", "messages": messages, "output": output}
    return {**first, "scores": written, "metadata": {}, "store": {}, "events": [], "attachments": {}}


def inspect_log(*samples: dict[str, Any]) -> dict[str, Any]:
    """A log of Inspect."""
    evaluated = {"eval_id": "e", "run_id": "r", "task": "sky", "model": "m", "dataset": {}, "config": {}}
    return {"version": 2, "status": "success", "eval": evaluated, "results": {}, "samples": list(samples)}


def promptfoo(passed: bool = True, **more: Any) -> dict[str, Any]:
    """A result of promptfoo."""
    grading = {"pass": passed, "score": float(passed), "reason": "All assertions passed", "componentResults": []}
    first = {"id": "r", "promptIdx": 0, "testIdx": 0, "testCase": {"vars": {}}, "promptId": "p", "vars": {}}
    prompt = {"raw": QUESTION, "label": "prompt"}
    answered = {"provider": {"id": "openai:m", "label": ""}, "prompt": prompt, "response": {"output": ANSWER}}
    graded = {"failureReason": 0 if passed else 1, "success": passed, "score": float(passed), "namedScores": {}}
    return {**first, **answered, **graded, "gradingResult": grading, "latencyMs": 1, **more}


def compared(passed: bool, output: str, test: int = 0, raw: str = QUESTION) -> dict[str, Any]:
    """A result of promptfoo that an assertion compared with others of its test."""
    component = {"pass": passed, "score": float(passed), "reason": "", "assertion": {"type": "select-best"}}
    grading = {"pass": passed, "score": float(passed), "reason": "", "componentResults": [component]}
    more = {"testIdx": test, "response": {"output": output}, "prompt": {"raw": raw, "label": "p"}}
    return promptfoo(passed, gradingResult=grading, **more)


def promptfoo_file(*results: dict[str, Any]) -> dict[str, Any]:
    """A file of promptfoo."""
    summary = {"version": 3, "timestamp": "2026", "prompts": [], "results": list(results), "stats": {"successes": 1}}
    return {"evalId": "eval-1", "results": summary, "config": {}, "shareableUrl": None, "metadata": {}}


def deepeval(success: Any = True, *metrics: dict[str, Any]) -> dict[str, Any]:
    """A test case of DeepEval."""
    default = {"name": "Answer Relevancy", "threshold": 0.5, "success": success, "score": 0.9, "strictMode": False}
    case = {"name": "test_case_0", "input": QUESTION, "actualOutput": ANSWER, "success": success, "order": 0}
    return {**case, "metricsData": list(metrics) or [default]}


def lm_eval(prompt: str = QUESTION, **results: Any) -> dict[str, Any]:
    """A sample of lm-evaluation-harness that generated."""
    arguments = {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n\n"], "do_sample": False}}}
    first = {"doc_id": 0, "doc": {"question": QUESTION}, "target": "scattering", "arguments": arguments}
    replied = {"resps": [[ANSWER]], "filtered_resps": ["light"], "filter": "none", "metrics": list(results)}
    return {**first, **replied, "doc_hash": "h", "prompt_hash": "h", "target_hash": "h", **results}


def lm_eval_choice(acc: float, *likelihoods: float) -> dict[str, Any]:
    """A sample of lm-evaluation-harness that chose among texts."""
    texts = (ANSWER, OTHER, "It is painted.")[: len(likelihoods)]
    arguments = {f"gen_args_{i}": {"arg_0": QUESTION, "arg_1": f" {text}"} for i, text in enumerate(texts)}
    replies = [[[str(likelihood), "False"]] for likelihood in likelihoods]
    filtered = [[str(likelihood), "False"] for likelihood in likelihoods]
    return {**lm_eval(acc=acc, acc_norm=acc), "arguments": arguments, "resps": replies, "filtered_resps": filtered}


def argilla(*responses: tuple[str, Any], **fields: str) -> dict[str, Any]:
    """A record of Argilla 2: its fields, and each question with what one person answered."""
    texts = fields or {"prompt": QUESTION, "response_1": ANSWER, "response_2": OTHER}
    said = {question: [{"value": value, "user_id": "u1"}] for question, value in responses}
    record = {"id": "1", "fields": texts, "metadata": {}, "suggestions": {}, "responses": said, "vectors": {}}
    return {**record, "status": "completed", "_server_id": "x"}


def argilla_columns(*responses: tuple[str, Any], status: str = "submitted", **fields: str) -> dict[str, Any]:
    """A row of Argilla's `to_datasets`."""
    texts = fields or {"prompt": QUESTION, "response_1": ANSWER, "response_2": OTHER}
    columns: dict[str, Any] = {}
    for question, value in responses:
        columns[f"{question}.responses"] = [value]
        columns[f"{question}.responses.users"] = ["u1"]
        columns[f"{question}.responses.status"] = [status]
    return {"id": "1", "status": "completed", "_server_id": "x", **texts, **columns}


def label_studio(*results: tuple[str, str, Any], **data: str) -> dict[str, Any]:
    """A task of Label Studio with one annotation."""
    written = [
        {"id": "r", "from_name": name, "to_name": "text", "type": kind, "value": {kind: value}}
        for name, kind, value in results
    ]
    annotation = {"id": 1, "completed_by": 3, "was_cancelled": False, "result": written, "lead_time": 4.2}
    texts = data or {"prompt": QUESTION, "response": ANSWER}
    return {"id": 7, "data": texts, "annotations": [annotation], "predictions": [], "project": 1}


RANKED = [{"value": "response_2", "rank": 2}, {"value": "response_1", "rank": 1}]
ONE = {"prompt": QUESTION, "response": ANSWER}
TURNS = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]

TOOLS: dict[str, dict[str, Any]] = {
    "open_webui": open_webui(),
    "open_webui_chats": open_webui_chat(),
    "langfuse": langfuse(thumb(1)),
    "langfuse_page": {"data": [langfuse(thumb(1))], "meta": {"page": 1, "limit": 50, "totalItems": 1, "totalPages": 1}},
    "langfuse_table": langfuse_table(**{"user-feedback": [1]}),
    "langsmith": langsmith({"user_score": stats(1.0)}),
    "langsmith_page": {"runs": [langsmith({"user_score": stats(1.0)})], "cursors": {"next": None}},
    "langsmith_results": {
        "input.question": QUESTION,
        "outputs.output": ANSWER,
        "reference.answer": "scattering",
        "execution_time": 1.2,
        "error": None,
        "id": "r1",
        "feedback.correctness": 1.0,
    },
    "mlflow": mlflow(assessment("correctness", True)),
    "mlflow_page": {"traces": [mlflow(assessment("correctness", True))], "next_page_token": None},
    "mlflow_table": {
        "trace_id": "tr-1",
        "trace": json.dumps(mlflow(assessment("correctness", True))),
        "state": "OK",
        "request": {"question": QUESTION},
        "response": ANSWER,
        "assessments": "[{'assessment_name': 'correctness'}]",
    },
    "phoenix": phoenix(annotation("correctness", "correct", 1.0)),
    "phoenix_trace": {
        "traceId": "t1",
        "spans": [phoenix(annotation("correctness", "correct", 1.0))],
        "status": "OK",
        "duration": 3,
    },
    "phoenix_table": {
        "span_id": "s1",
        "annotation_name": "correctness",
        "annotator_kind": "HUMAN",
        "result.label": "correct",
        "result.score": 1.0,
        "user_id": "u1",
        "span_kind": "CHAIN",
        "attributes.input.value": QUESTION,
        "attributes.output.value": ANSWER,
    },
    "phoenix_dataset": {
        "id": "RGF0YXNldEV4YW1wbGU6MQ==",
        "input": {"question": QUESTION},
        "output": {"answer": ANSWER},
        "metadata": {"annotations": {"correctness": [{"label": "correct", "score": 1.0, "annotator_kind": "HUMAN"}]}},
        "updated_at": "2026-01-01",
    },
    "inspect_log": inspect_log(inspect_sample(match="C")),
    "inspect_sample": inspect_sample(match="C"),
    "promptfoo": promptfoo(),
    "promptfoo_file": promptfoo_file(compared(True, ANSWER), compared(False, OTHER)),
    "deepeval": deepeval(),
    "deepeval_run": {
        "testCases": [deepeval()],
        "conversationalTestCases": [],
        "metricsScores": [],
        "testPassed": 1,
        "testFailed": 0,
        "runDuration": 1.0,
    },
    "lm_eval": lm_eval(exact_match=1.0),
    "argilla": argilla(("preference", "response_1"), ("ranking", RANKED)),
    "argilla_answer": argilla(("quality", 4), ("correct", "yes"), **ONE),
    "argilla_columns": argilla_columns(("preference", "response_1"), ("ranking", RANKED)),
    "argilla_columns_answer": argilla_columns(("quality", 4), ("correct", "yes"), **ONE),
    "label_studio_answer": label_studio(("quality", "choices", ["Good"])),
    "label_studio": label_studio(
        ("pw", "pairwise", None), prompt=QUESTION, answer1=ANSWER, answer2=OTHER
    ) | {"annotations": [{"id": 1, "completed_by": 3, "was_cancelled": False, "result": [
        {"id": "r", "from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": "left"}}]}]},
    "label_studio_choices": label_studio(
        ("best", "choices", ["right"]), prompt=QUESTION, answer1=OTHER, answer2=ANSWER
    ),
    "label_studio_ranker": {
        "id": 7,
        "data": {"prompt": QUESTION, "items": [{"id": "a", "body": ANSWER}, {"id": "b", "body": OTHER}]},
        "annotations": [{"id": 1, "completed_by": 3, "was_cancelled": False, "result": [
            {"from_name": "rank", "to_name": "list", "type": "ranker", "value": {"ranker": {"_": ["a", "b"]}}}
        ]}],
        "predictions": [],
    },
    "label_studio_min": {
        "id": 7,
        "prompt": QUESTION,
        "answer1": ANSWER,
        "answer2": OTHER,
        "pw": "left",
        "annotator": 3,
        "annotation_id": 1,
        "lead_time": 4.2,
    },
    "tinker": {
        "comparison": {
            "prompt_conversation": [USER],
            "completion_A": [ASSISTANT],
            "completion_B": [{"role": "assistant", "content": OTHER}],
        },
        "label": "A",
    },
    "sharegpt_preference": {
        "conversations": TURNS[:1],
        "chosen": TURNS[1],
        "rejected": {"from": "gpt", "value": OTHER},
    },
    "ms_swift": {
        "messages": [USER, ASSISTANT],
        "rejected_messages": [USER, {"role": "assistant", "content": OTHER}],
    },
    "openai_preference": {
        "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [ASSISTANT],
        "non_preferred_output": [{"role": "assistant", "content": OTHER}],
    },
}  # fmt: skip
