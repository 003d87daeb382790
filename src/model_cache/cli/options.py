"""The options that the commands share, and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from model_cache.cli.target import LOCAL

# Where Redis is.
Url = Annotated[
    str | None,
    typer.Option(
        envvar="REDIS_URL",
        show_default=LOCAL,
        help="Redis: redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://.",
    ),
]
Proxied = Annotated[
    bool, typer.Option("--proxied", help="Redis is behind a proxy such as Twemproxy.")
]
Timeout = Annotated[
    float, typer.Option(min=0.001, max=60.0, help="Seconds that each round trip may take.")
]
Prefix = Annotated[str | None, typer.Option(help="The decorator's prefix.")]

# What to print.
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

# inspect
Key = Annotated[str | None, typer.Argument(help="A key to decode.")]
OnlyModel = Annotated[
    str | None, typer.Option(help="Only the entries of this model (qualified name).")
]
Sample = Annotated[int, typer.Option(min=1, help="How many entries of each version to read.")]
Keys = Annotated[
    int, typer.Option(min=0, help="How many keys of each version to list, from the sample.")
]

# stats
OnlyVersion = Annotated[str | None, typer.Option("--version", help="Only this version.")]
Price = Annotated[
    float | None,
    typer.Option("--price-per-hour", min=0.0, help="What an hour of model time costs."),
]
Watch = Annotated[bool, typer.Option("--watch", help="Show them again every 2 s, until Ctrl-C.")]

# purge
PurgedModel = Annotated[str, typer.Option(help="The model's qualified name.")]
Version = Annotated[
    str | None, typer.Option("--version", help="Only this version.", show_default="all versions")
]
AllBut = Annotated[
    list[str] | None,
    typer.Option(
        "--all-but", metavar="VERSION", help="All versions but this one; may be repeated."
    ),
]
AllPrefixes = Annotated[
    bool, typer.Option("--all-prefixes", help="Keys with any prefix and keys without one.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

# warm
Requests = Annotated[
    Path,
    typer.Option(help="File of requests, in JSON Lines or CSV with a header; - for stdin."),
]
WarmedModel = Annotated[
    str | None,
    typer.Option(
        help="package.module.Class, or package.module:name, of a model or of a cached model."
    ),
]
DecoratorOptions = Annotated[
    Path | None,
    typer.Option("--options", help="YAML mapping of RedisCachingDecorator's options."),
]
ServiceConfig = Annotated[
    Path | None, typer.Option(help="Configuration of a rest_model_service, in YAML.")
]
UrlInstead = Annotated[
    str | None, typer.Option(help="Redis, if not the one in the options or in REDIS_URL.")
]
RequestFormat = Annotated[
    Literal["jsonl", "csv"] | None,
    typer.Option("--format", help="The format of the requests.", show_default="by file name"),
]
Threads = Annotated[int, typer.Option(min=1, max=256, help="How many predictions at once.")]
Rejected = Annotated[
    Path | None,
    typer.Option(help="File for rejected requests.", show_default="<requests>.rejected.jsonl"),
]

# advise
Log = Annotated[
    Path,
    typer.Option(
        "--requests",
        help="Log of requests: JSON Lines, CSV, Parquet, or what KServe or SageMaker write.",
    ),
]
AdvisedModel = Annotated[
    str, typer.Option(help="package.module.Class, or package.module:name, of an ml-base model.")
]
Budget = Annotated[
    str, typer.Option(help="How long to try choices with the model, such as 60s or 5m.")
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="The change that 99% of the answers must stay within, in the output's unit; "
        "for labels, the share that may flip."
    ),
]
TimeColumn = Annotated[
    str | None,
    typer.Option(help="The column with the time of a request.", show_default="by its name"),
]
LogFormats = Annotated[
    Literal["jsonl", "csv", "parquet"] | None,
    typer.Option("--format", help="The format of the log.", show_default="by file name"),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", help="Write the advice to this file too, as .html or .json."),
]

# doctor
DecoratorTimeout = Annotated[
    float, typer.Option(min=0.001, max=60.0, help="The decorator's timeout, in seconds.")
]
CheckedModel = Annotated[
    str | None, typer.Option(help="Check permissions for this model (qualified name).")
]
