"""Language models that answer: `tacit generate`, `tune` and `convert`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tacit import terminal
from tacit.cli.app import app, usage
from tacit.options.policy import ConvertOptions, GenerateOptions
from tacit.options.tune import TuneOptions

if TYPE_CHECKING:
    from tacit.evidence import Evidence
    from tacit.rewards.contract import Reward


@app.command
def generate(policy: str, prompts: str, *, options: Annotated[GenerateOptions, Parameter(name="*")]) -> None:
    """Samples of a policy for the prompts of a file, scored by a reward, or the best of them.

    Parameters
    ----------
    policy
        Folder of a transformers causal language model, a llama2.c file, or the address of a server (http://...).
    prompts
        File, folder or hub:owner/name of rows with `prompt`, or of any evidence.
    """
    from tacit.evidence.write import row_writer
    from tacit.improve import generate as generation

    start, tally = time.perf_counter(), generation.Tally()
    with (
        options.files("generate", options.out, policy=policy, prompts=prompts) as files,
        row_writer(files.new(options.out)) as write,
    ):
        asked = generation.read_prompts(prompts, reading=options.reading(), limit=options.limit)
        opened = options.open(policy)
        reward = None if options.reward is None else options.load(options.reward, options.encoded())
        for samples in generation.sampled(opened, asked, options.n, options.sampling(), reward=reward, source=prompts):
            write([samples.best(keep_all=options.all_)] if options.best else samples.rows())
            tally.add(samples)
    result = tally.result(scored=reward is not None) | {"out": str(options.out), "seconds": time.perf_counter() - start}
    options.show(result | ({} if reward is None else usage(reward)), [result])


@app.command
def tune(method: str, *, options: Annotated[TuneOptions, Parameter(name="*")]) -> None:
    """A reward (or examples, or preferences) into the weights of a policy.

    Parameters
    ----------
    method
        sft, reward, dpo, rejection, reinforce, remax, rloo, grpo or ppo; from demonstrations alone spin, adversarial
        or iq.
    """
    from tacit.artefacts import atomic_file, resolved
    from tacit.demonstrations import run as imitation
    from tacit.rewards.controls import RandomReward
    from tacit.tuning.processes import Processes
    from tacit.tuning.run import Job
    from tacit.tuning.run import tune as run

    processes, given = Processes.joined(), options.reward
    options.refuse_unused(method)
    options.permit()
    config = options.out / "config.yaml"
    repeats = options.resume and options.config is not None and resolved(options.config) == resolved(config)
    if processes.main:
        read = options.model_copy(update={"config": None}) if repeats else options
        read.output("tune", options.out).require_run(resume=options.resume)

    def opened() -> Reward:
        if given == "random":
            return RandomReward(options.seed)
        return options.load(Path(str(given)), options.cache)

    reward = None if given is None else opened

    def keep() -> None:
        if not repeats:  # what is read is never replaced
            text = options.model_copy(update={"resume": False}).configuration(options.out, method=method)
            with atomic_file(config) as path:
                path.write_text(text, "utf-8")

    evidence: list[Evidence] = []

    def read_evidence(source: str) -> Evidence:
        evidence.append(options.read(source))
        return evidence[-1]

    about = (options.policy, options.data, options.out, options.chosen(), read_evidence, reward, options.eval_data)
    if method in imitation.METHODS:
        job = imitation.DemonstrationJob(method, *about, processes, options.cache)
        result = imitation.tune(job, resume=options.resume)
    else:
        result = run(Job(method, *about, processes, begun=keep, reading=options.reading()), resume=options.resume)
    if processes.main:
        keep()
        terminal.print_notes(note for read_once in evidence for note in read_once.notes)
        terminal.write_result(options.out / "result.json", result)
        options.show(result, terminal.metric_rows(result), f"{method} in {options.out}")


@app.command
def convert(source: Path, *, options: Annotated[ConvertOptions, Parameter(name="*")]) -> None:
    """A model in the file format of llama2.c as a transformers folder, with its tokenizer.

    Parameters
    ----------
    source
        The .bin file of the model, or a folder with it and its tokenizer.
    """
    from tacit.errors import MissingExtra, extra_installed

    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`convert`")
    from tacit.policies import llama2c

    with options.folder_and_file("convert", options.out, "config.json", source=source) as folder:
        result = {**llama2c.convert(source, folder, options.tokenizer), "out": str(options.out)}
    options.show(result, [result])
