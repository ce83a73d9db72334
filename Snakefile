# What has to run, in which order, and no more: `make plan` (or `snakemake -n`) says why.
#
# A notebook's source, the library, the settings, the data and the environment are no inputs here:
# their dates say nothing after a checkout. `ddbook.runner.keys` compares their content with the finished
# run's and moves the date of a stamp file, which is the input. So a run made by hand, by this file
# or on another machine counts alike, and `rerun-triggers` is mtime alone. Nor is the run itself an
# output, which Snakemake would delete before the next has succeeded: `<name>.done` stands for it.
#
#     snakemake --config profile=standard                    # the book of the standard profile
#     snakemake dirac_gan --config profile=standard timeout=3600   # a notebook, of an hour at most
#     snakemake notebooks --executor slurm --jobs 20 --config profile=paper   # with its plugin

import os
import sys

from ddbook.runner import build, keys, places, profiles, run
from ddbook.runner.job import describe

ROOT = places.root()
PROFILE = config.get("profile", "quick")
profiles.check_profile(PROFILE)
TIMEOUT = run.check_timeout(config.get("timeout"))
NAMES = list(places.sources(ROOT))
# The quick notebooks mostly compile, on one core: as many at once as there are cores. The larger
# profiles compute, and XLA takes the cores that there are.
THREADS = 1 if PROFILE == "quick" else min(4, os.cpu_count() or 1)


def relative(path):
    return os.path.relpath(path, ROOT)


def done(name):
    return relative(places.products(ROOT, PROFILE, name).done)


localrules:
    book,
    notebooks,


rule book:
    input:
        runs=[done(name) for name in NAMES],
        stamp=relative(build.stamp(ROOT, PROFILE)),
    output:
        touch(relative(build.done(ROOT))),
    message:
        "The HTML is built"
    shell:
        "{sys.executable:q} -m ddbook.runner.build --profile {PROFILE}"


rule notebooks:
    input:
        [done(name) for name in NAMES],


for name in NAMES:
    job = describe(ROOT, PROFILE, name)
    made, header = job.products, job.header
    why = keys.stale(job)
    shown = "; ".join(why).replace("{", "{{").replace("}", "}}") or "what it needs is new"

    rule:
        name:
            name
        input:
            stamp=relative(keys.stamp(made.stamp, why, keys.mark(made.done, made.notebook, made.record))),
            needs=[done(needed) for needed in header.needs],
        output:
            touch(relative(made.done)),
        params:
            notebook=name,
            # another batch may have made it since
            more=("--if-stale " if why else "") + (f"--timeout {TIMEOUT}" if TIMEOUT else ""),
        message:
            f"{name} ({PROFILE}) runs: {shown}"
        threads: THREADS
        priority: int(keys.expected_seconds(job))  # the longest first
        resources:
            # `--resources gpu=2` says how many there are; the runner locks one for each job
            gpu=int(header.gpu and PROFILE != "quick"),
        shell:
            "{sys.executable:q} -m ddbook.runner.command {params.notebook:q} --profile {PROFILE} {params.more}"

    # A run may be asked for by its file as well.
    rule:
        name:
            relative(made.notebook)
        input:
            relative(made.done),

    rule:
        name:
            f"needs_of_{name}"
        input:
            [done(needed) for needed in header.needs],
