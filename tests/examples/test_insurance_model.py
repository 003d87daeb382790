"""The example model gives stable, correct predictions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from pydantic import BaseModel, ValidationError

from examples.insurance_charges import model as model_module
from examples.insurance_charges.generator import generate_rows, random_inputs
from examples.insurance_charges.model import InsuranceChargesModel
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
    RegionEnum,
    SexEnum,
)
from examples.insurance_charges.table import FEATURES, InsuranceRow, features
from examples.insurance_charges.train import main, save, train
from tests.checkout import REPOSITORY
from tests.examples.tables import write_table

PREDICT_IN_ANOTHER_PROCESS = """
import sys
from examples.insurance_charges.generator import random_inputs
from examples.insurance_charges.model import InsuranceChargesModel

model = InsuranceChargesModel(sys.argv[1])
print(*(model.predict(data).charges for data in random_inputs(50, seed=5)))
"""


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.joblib"
    save(train(generate_rows(400, seed=1), seed=1).pipeline, path)
    return path


@pytest.fixture(scope="session")
def model(model_file: Path) -> InsuranceChargesModel:
    return InsuranceChargesModel(model_file)


@pytest.fixture(scope="session")
def many_rows() -> list[InsuranceRow]:
    return generate_rows(30_000, seed=3)


def run_python(*arguments: str, hash_seed: str = "random") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return finished.stdout


def person(**changes: object) -> InsuranceChargesModelInput:
    facts = {
        "age": 42,
        "sex": "female",
        "bmi": 24.0,
        "children": 2,
        "smoker": False,
        "region": "northwest",
    }
    return InsuranceChargesModelInput.model_validate(facts | changes)


# The model and its schemas


def test_metadata_are_the_articles(model: InsuranceChargesModel) -> None:
    assert model.display_name == "Insurance Charges Model"
    assert model.qualified_name == "insurance_charges_model"
    assert model.version == "0.1.0"
    assert model.description
    assert model.input_schema is InsuranceChargesModelInput
    assert model.output_schema is InsuranceChargesModelOutput
    assert repr(model) == "InsuranceChargesModel"


def test_input_schema_has_the_articles_titles_and_limits() -> None:
    document = InsuranceChargesModelInput.model_json_schema()
    assert document["title"] == "InsuranceChargesModelInput"
    assert document["description"] == "Schema for input of the model's predict method."
    assert document["properties"]["age"] == {
        "title": "Age",
        "description": "Age of primary beneficiary in years.",
        "minimum": 18,
        "maximum": 65,
        "type": "integer",
    }
    assert document["properties"]["bmi"] == {
        "title": "Body Mass Index",
        "description": "Body mass index of beneficiary.",
        "minimum": 15.0,
        "maximum": 50.0,
        "type": "number",
    }
    assert document["properties"]["children"] == {
        "title": "Children",
        "description": "Number of children covered by health insurance.",
        "minimum": 0,
        "maximum": 5,
        "type": "integer",
    }
    assert document["properties"]["smoker"] == {
        "title": "Smoker",
        "description": "Whether beneficiary is a smoker.",
        "type": "boolean",
    }
    assert document["properties"]["sex"]["description"] == "Gender of beneficiary."
    assert document["properties"]["region"]["description"] == "Region where beneficiary lives."
    assert document["$defs"]["RegionEnum"]["enum"] == [
        "southwest",
        "southeast",
        "northwest",
        "northeast",
    ]


@pytest.mark.parametrize(
    "changes",
    [{"age": 17}, {"age": 66}, {"bmi": 14.9}, {"bmi": 50.1}, {"children": 6}, {"region": "north"}],
)
def test_input_outside_the_limits_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        person(**changes)


def test_prediction_is_dollars_to_the_cent(model: InsuranceChargesModel) -> None:
    for data in random_inputs(30, seed=4):
        output = model.predict(data)
        assert isinstance(output, InsuranceChargesModelOutput)
        assert output.charges > 0
        assert output.charges == round(output.charges, 2)


def test_prediction_does_not_change_its_input(model: InsuranceChargesModel) -> None:
    data = person()
    model.predict(data)
    assert data == person()


def test_smoking_raises_the_predicted_charges(model: InsuranceChargesModel) -> None:
    smoker = model.predict(person(smoker=True)).charges
    assert smoker > model.predict(person()).charges + 5_000


def test_another_type_of_input_is_a_type_error(model: InsuranceChargesModel) -> None:
    class Stranger(BaseModel):
        age: int = 42

    with pytest.raises(TypeError, match="takes an InsuranceChargesModelInput, not a Stranger"):
        model.predict(Stranger())  # type: ignore[arg-type]  # the mistake under test


def test_pipeline_is_fed_every_field_of_the_input_schema() -> None:
    assert tuple(InsuranceChargesModelInput.model_fields) == FEATURES
    row = InsuranceRow(42, SexEnum.female, 24.0, 2, False, RegionEnum.northwest, 8640.78)
    assert features(row) == features(person())


# The same answer everywhere


def test_two_loads_of_a_file_predict_the_same(
    model: InsuranceChargesModel, model_file: Path
) -> None:
    again = InsuranceChargesModel(str(model_file))
    for data in random_inputs(30, seed=6):
        assert again.predict(data) == model.predict(data)


def test_another_process_predicts_the_same(model: InsuranceChargesModel, model_file: Path) -> None:
    here = [model.predict(data).charges for data in random_inputs(50, seed=5)]
    printed = run_python("-c", PREDICT_IN_ANOTHER_PROCESS, str(model_file))
    assert [float(charges) for charges in printed.split()] == here


# Of older versions of scikit-learn, which do not mean threads like these.
@pytest.mark.filterwarnings("ignore:.*sklearn.utils.parallel.delayed:UserWarning")
def test_threads_that_share_a_model_predict_the_same(model: InsuranceChargesModel) -> None:
    inputs = random_inputs(80, seed=7)
    alone = [model.predict(data) for data in inputs]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(model.predict, inputs)) == alone


def test_file_loads_without_the_code_that_trained_it(model_file: Path) -> None:
    code = "import sys, joblib; joblib.load(sys.argv[1]); print('examples' in sys.modules)"
    assert run_python("-c", code, str(model_file)).strip() == "False"


def test_untrained_model_says_how_to_train_it(tmp_path: Path) -> None:
    absent = tmp_path / "absent.joblib"
    command = r"python -m examples\.insurance_charges\.train"
    with pytest.raises(FileNotFoundError, match=command) as caught:
        InsuranceChargesModel(absent)
    assert caught.value.filename == str(absent)


def test_model_is_loaded_from_its_own_directory_by_default(
    monkeypatch: pytest.MonkeyPatch, model_file: Path
) -> None:
    assert model_module.MODEL_FILE.parent == Path(str(model_module.__file__)).parent
    monkeypatch.setattr(model_module, "MODEL_FILE", model_file)
    assert InsuranceChargesModel().predict(person()).charges > 0


# Training


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    outputs = [tmp_path / "first.joblib", tmp_path / "second.joblib"]
    for hash_seed, output in zip(("1", "2"), outputs, strict=True):
        run_python(
            *("-m", "examples.insurance_charges.train", "--rows", "200", "--seed", "9"),
            *("--output", str(output)),
            hash_seed=hash_seed,
        )
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_another_seed_writes_another_model(tmp_path: Path) -> None:
    rows = generate_rows(100, seed=1)
    for seed in (1, 2):
        save(train(rows, seed).pipeline, tmp_path / f"{seed}.joblib")
    assert (tmp_path / "1.joblib").read_bytes() != (tmp_path / "2.joblib").read_bytes()


def test_generated_rows_can_be_learnt_from() -> None:
    trained = train(generate_rows(1338, seed=2), seed=2)
    assert 0.75 < trained.r2 < 0.95
    assert 1_500 < trained.mean_absolute_error < 4_000


def test_training_from_a_csv_reports_and_writes_a_usable_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, output = tmp_path / "insurance.csv", tmp_path / "model.joblib"
    rows = generate_rows(200, seed=8)
    write_table(table, rows)
    assert main(["--data", str(table), "--output", str(output), "--seed", "8"]) == 0

    report = capsys.readouterr().out
    assert f"200, from {table}" in report
    for line in (
        "R2, held out",
        "mean absolute error",
        "trained in",
        f"written to           {output}",
    ):
        assert line in report
    assert InsuranceChargesModel(output).predict(person()).charges > 0

    save(train(rows, seed=8).pipeline, tmp_path / "direct.joblib")
    assert output.read_bytes() == (tmp_path / "direct.joblib").read_bytes()


def test_failed_write_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.joblib"
    output.write_bytes(b"old")

    def disk_is_full(pipeline: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("joblib.dump", disk_is_full)
    assert main(["--rows", "60", "--output", str(output)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert output.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rows", "49"],
        ["--rows", "many"],
        ["--seed", "-1"],
        ["--seed", str(2**32)],
        ["--rows", "100", "--data", "insurance.csv"],
    ],
)
def test_bad_option_ends_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_generated_people_are_distributed_as_published(many_rows: list[InsuranceRow]) -> None:
    n = len(many_rows)
    ages = [row.age for row in many_rows]
    assert (min(ages), max(ages)) == (18, 64)
    assert fmean(ages) == pytest.approx(39.2, abs=0.4)

    bmis = [row.bmi for row in many_rows]
    assert 16 <= min(bmis) <= max(bmis) <= 53
    assert fmean(bmis) == pytest.approx(30.7, abs=0.2)
    assert pstdev(bmis) == pytest.approx(6.1, abs=0.2)
    southeast = [row.bmi for row in many_rows if row.region == RegionEnum.southeast]
    assert fmean(southeast) == pytest.approx(33.4, abs=0.2)

    children = Counter(row.children for row in many_rows)
    shares = [children[count] / n for count in range(6)]
    assert shares == pytest.approx([0.429, 0.242, 0.179, 0.117, 0.019, 0.013], abs=0.01)
    assert fmean(row.smoker for row in many_rows) == pytest.approx(0.205, abs=0.01)
    assert fmean(row.sex == SexEnum.male for row in many_rows) == pytest.approx(0.5, abs=0.01)
    for region in RegionEnum:
        assert fmean(row.region == region for row in many_rows) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("smoker", "deviation"), [(False, 4500), (True, 3500)])
def test_generated_charges_follow_the_published_formulas(
    smoker: bool, deviation: float, many_rows: list[InsuranceRow]
) -> None:
    rows = [row for row in many_rows if row.smoker == smoker]
    residuals = [row.charges - expected_charges(row) for row in rows]
    assert min(row.charges for row in rows) >= 1100
    assert fmean(residuals) == pytest.approx(0, abs=200)
    assert pstdev(residuals) == pytest.approx(deviation, rel=0.06)
    assert fmean(residual < 0 for residual in residuals) > 0.8, "heavy on the high side"


def expected_charges(row: InsuranceRow) -> float:
    male = row.sex == SexEnum.male
    if row.smoker:
        obese = 15291 * (row.bmi > 30)
        rest = 55 + 232 * row.age + 0.44 * row.age**2 + 466 * row.bmi
        return rest + obese + 217 * row.children - 445 * male
    return 3526 - 87 * row.age + 4.44 * row.age**2 + 770 * row.children - 530 * male


def test_random_requests_reach_every_limit_of_the_schema() -> None:
    inputs = random_inputs(3_000, seed=11)
    assert {data.age for data in inputs} == set(range(18, 66))
    assert {data.children for data in inputs} == set(range(6))
    assert {data.sex for data in inputs} == set(SexEnum)
    assert {data.region for data in inputs} == set(RegionEnum)
    assert fmean(data.smoker for data in inputs) == pytest.approx(0.5, abs=0.05)
    assert fmean(data.bmi for data in inputs) == pytest.approx(32.5, abs=0.6)
    assert all(data.bmi == round(data.bmi, 3) for data in inputs)
    assert len({data.model_dump_json() for data in inputs}) > 2_900
