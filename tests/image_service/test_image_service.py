"""The image service over HTTP: real processes, a real model, a real Redis."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import re
import socket
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.checkout import IMPORTS, REPOSITORY
from tests.openapi import check_openapi
from tests.servers import Server, free_port, running_server
from tests.services import Service
from tests.stored import entries

if importlib.util.find_spec("rapidocr") is None:
    pytest.skip(
        "the OCR model is not installed here; `make test-images` runs these tests",
        allow_module_level=True,
    )

UVICORN = ["uvicorn", "--factory", "examples.image_service.app:create_app"]
STEERED = ["uvicorn", "--factory", "tests.image_service.apps:create_app"]
GUNICORN = ["gunicorn", "--config", "examples/image_service/gunicorn.conf.py"]
KEYS = "images/ocr_model/1.0.0/*"


def image(*lines: str, kind: str = "PNG") -> bytes:
    from examples.image_service.drawing import draw

    return draw(lines, kind=kind)


def form(content: bytes, name: str = "a.png", field: str = "file") -> tuple[bytes, dict[str, str]]:
    """Return a multipart body and its headers."""
    head = f'--cut\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    body = head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--cut--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=cut"}


class ImageService(Service):
    store: redis.Redis

    def send(self, content: bytes, name: str = "a.png") -> tuple[int, Any]:
        request = {"file_path": name, "img_base64": base64.b64encode(content).decode()}
        return self.call("POST", "/predict", json.dumps(request))

    def predict(self, content: bytes, name: str = "a.png") -> dict[str, Any]:
        """Send an image, and wait until its answer is stored: that is after the response."""
        before = self.entries()
        status, answer = self.send(content, name)
        assert status == 200, answer
        deadline = time.monotonic() + 60
        while answer["cache"] == "miss" and self.entries() == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return dict(answer)

    def entries(self) -> int | None:
        """Return how many entries Redis holds; None if it is down."""
        try:
            return len(entries(self.store))
        except redis.ConnectionError:
            return None

    def texts(self, content: bytes, name: str = "a.png") -> tuple[str, list[str]]:
        answer = self.predict(content, name)
        return answer["cache"], [line["text"] for line in answer["prediction"]["lines"]]


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, url: str, **environment: str
) -> Iterator[ImageService]:
    # A busy machine must not turn hits into predictions.
    environment = {"REDIS_URL": url, "CACHE_TIMEOUT": "10", **environment}
    service = ImageService(command, environment, folder / "service.log", "/health")
    # redis-py retries ten times by default: seconds per call while it is down.
    service.store = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.store.close()
        service.stop()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """Return a server without entries; the service that is running knows the generations."""
    with shared_server.client() as client:
        for key in entries(client):
            client.delete(key)
    return shared_server


@pytest.fixture(scope="module")
def service(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ImageService]:
    limits = {"MAX_BODY_BYTES": "200000", "MAX_PIXELS": "1000000"}
    folder = tmp_path_factory.mktemp("service")
    with running(UVICORN, folder, shared_server.url, **limits) as service:
        yield service


@pytest.fixture
def steered(server: Server, tmp_path: Path) -> Iterator[ImageService]:
    environment = {"STEERING_FOLDER": str(tmp_path), "MAX_REQUESTS": "2"}
    with running(STEERED, tmp_path, server.url, **environment) as service:
        yield service


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_log(service: ImageService, text: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while service.log.count(text) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_reads_an_image_once_and_a_hit_equals_the_miss(
    service: ImageService, client: redis.Redis
) -> None:
    receipt = image("RECEIPT 20417", "Total 1,284.50 EUR")
    first, second = service.predict(receipt), service.predict(receipt)
    assert [first["cache"], second["cache"]] == ["miss", "hit"]
    assert first["prediction"] == second["prediction"]
    lines = first["prediction"]["lines"]
    assert [line["text"] for line in lines] == ["RECEIPT 20417", "Total 1,284.50 EUR"]
    assert all(line["score"] > 0.9 and len(line["box"]) == 4 for line in lines)
    assert first["job_id"] != second["job_id"]
    (key,) = entries(client, KEYS)
    assert json.loads(client.get(key) or b"") == first["prediction"]


def test_the_content_counts_and_the_name_does_not(
    service: ImageService, client: redis.Redis
) -> None:
    one, other = image("FIRST 111"), image("OTHER 222")
    assert service.texts(one, "in_images/000001_0.png") == ("miss", ["FIRST 111"])
    assert service.texts(one, "in_images/000002_0.png") == ("hit", ["FIRST 111"])
    assert service.texts(other, "in_images/000001_0.png") == ("miss", ["OTHER 222"])
    assert service.texts(image("FIRST 111", kind="JPEG"))[0] == "miss"


def test_the_response_reports_the_cache_outcome(service: ImageService, client: redis.Redis) -> None:
    body = json.dumps({"file_path": "a.png", "img_base64": base64.b64encode(image("HI")).decode()})
    headers = [service.exchange("POST", "/predict", body)[1] for _ in range(2)]
    assert [one["X-Cache"] for one in headers] == ["MISS", "HIT"]


def test_a_form_and_json_share_the_entries(service: ImageService, client: redis.Redis) -> None:
    content = image("SHARED 333")
    first = service.predict(content)
    assert first["cache"] == "miss"
    status, answer = service.call("POST", "/predict", *form(content, "photo.png"))
    assert (status, answer["cache"], answer["file_path"]) == (200, "hit", "photo.png")
    assert answer["prediction"] == first["prediction"]


def test_the_log_shows_each_job_from_start_to_end(
    service: ImageService, client: redis.Redis
) -> None:
    content = image("LOGGED 444")
    jobs = [service.predict(content, "in_images/0\n1.png")["job_id"] for _ in range(2)]
    for job, verb in zip(jobs, ["registering cache", "cache hit"], strict=True):
        assert re.search(
            rf"INFO predict START job_id={job}\n"
            rf".* INFO {verb}: in_images/0\?1\.png\n"
            rf".* INFO predict END job_id={job}, elapsed_time \[ms\]=\d+\.\d{{5}}\n",
            service.log,
        )
        assert re.fullmatch("[0-9a-f]{6}", job)


def test_an_image_without_text_is_an_answer_too(service: ImageService, client: redis.Redis) -> None:
    assert service.texts(image()) == ("miss", [])
    assert service.texts(image()) == ("hit", [])


def bomb(width: int, height: int) -> bytes:
    """Return a PNG whose header promises more pixels than it has."""
    content = bytearray(image("BOMB"))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def as_json(**fields: object) -> tuple[str, dict[str, str]]:
    return json.dumps(fields), {"Content-Type": "application/json"}


def encoded(content: bytes) -> tuple[str, dict[str, str]]:
    return as_json(img_base64=base64.b64encode(content).decode())


def bad_requests() -> dict[str, tuple[Any, dict[str, str], int, str]]:
    text = {"Content-Type": "text/plain"}
    no_boundary = {"Content-Type": "multipart/form-data"}
    charsets = {
        f"charset {name}": (
            form(image("X"))[0],
            {"Content-Type": f"multipart/form-data; boundary=cut; charset={name}"},
            400,
            "charset",
        )
        for name in ("undefined", "punycode", "utf-16", "klingon", "hex")
    }
    return {
        **charsets,
        "another type": (b"hello", text, 415, "text/plain"),
        "no type": (b"hello", {}, 415, "unnamed"),
        "malformed JSON": ('{"img_base64": ', {"Content-Type": "application/json"}, 400, "JSON"),
        "no image": (*as_json(file_path="a.png"), 422, "img_base64: Field required"),
        "a list": (*as_json(img_base64=[1]), 422, "img_base64"),
        "no base64": (*as_json(img_base64="a!b="), 422, "base64"),
        "cut base64": (*as_json(img_base64="abc"), 422, "base64"),
        "letters beyond ASCII": (*as_json(img_base64="äöü="), 422, "base64"),
        "an empty image": (*form(b""), 422, "empty"),
        "no boundary": (b"hello", no_boundary, 400, "boundary"),
        "another field": (*form(image("X"), field="picture"), 422, "file"),
        "no image's bytes": (*encoded(b"hello, this is text"), 415, "PNG"),
        "another format": (*encoded(b"GIF89a" + bytes(100)), 415, "PNG"),
        "half an image": (*encoded(image("HALF")[:500]), 422, "damaged"),
        "half a header": (*encoded(image("HEADER")[:20]), 422, "damaged"),
        "a bomb": (*encoded(bomb(60_000, 60_000)), 413, "pixels"),
        "a small bomb": (*encoded(bomb(2_000, 2_000)), 413, "the limit is 1,000,000"),
        "a thread": (*encoded(bomb(20_000, 16)), 422, "at most 20"),
        "too small": (*encoded(bomb(15, 15)), 422, "at least 16"),
        "too large": (b"[" * 300_000, {"Content-Type": "application/json"}, 413, "200,000"),
        "too large a form": (*form(bytes(300_000)), 413, "200,000"),
    }


def test_responses_are_as_the_openapi_says(service: ImageService, tmp_path: Path) -> None:
    # A schema can't say which texts are the base64 of an image.
    check_openapi(service, tmp_path, "--exclude-checks=positive_data_acceptance")


def test_the_openapi_has_an_image_to_send_and_every_status(
    service: ImageService, client: redis.Redis
) -> None:
    _, openapi = service.call("GET", "/openapi.json")
    predict = openapi["paths"]["/predict"]["post"]
    example = predict["requestBody"]["content"]["application/json"]["example"]
    status, answer = service.call("POST", "/predict", json.dumps(example))
    assert status == 200
    assert [line["text"] for line in answer["prediction"]["lines"]] == ["OK"]
    readme = (REPOSITORY / "examples" / "image_service" / "README.md").read_text()
    in_readme = set(re.findall(r"^\| (\d{3}) \|", readme, re.MULTILINE))
    assert set(predict["responses"]) == {"200", *in_readme}
    assert in_readme >= {str(status) for _, _, status, _ in bad_requests().values()}


def test_bad_requests_get_the_reason_and_are_never_cached(
    service: ImageService, client: redis.Redis
) -> None:
    for name, (body, headers, expected, reason) in bad_requests().items():
        for _ in range(2):
            status, answer = service.call("POST", "/predict", body, headers)
            assert (name, status) == (name, expected), answer
            assert reason in answer["detail"], name
    assert service.call("GET", "/predict")[0] == 405
    assert entries(client) == []
    assert service.texts(image("STILL ALIVE")) == ("miss", ["STILL ALIVE"])
    assert "Traceback" not in service.log


def test_a_body_is_counted_while_it_comes_in(service: ImageService) -> None:
    parts = [b" " * 10_000] * 40  # in chunks: no Content-Length gives it away
    status, answer = service.call("POST", "/predict", iter(parts))
    assert (status, answer["detail"]) == (413, "the request's body is larger than 200,000 bytes")
    body, headers = form(bytes(400_000))
    status, _ = service.call("POST", "/predict", iter([body[:100_000], body[100_000:]]), headers)
    assert status == 413


def test_the_metadata_names_model_version_revision_and_schemas(service: ImageService) -> None:
    _, metadata = service.call("GET", "/metadata")
    assert metadata["qualified_name"] == "ocr_model"
    assert re.fullmatch("[0-9a-f]{64}", metadata["revision"])
    assert list(metadata["input_schema"]["properties"]) == ["content"]
    assert set(metadata["output_schema"]["required"]) == {"width", "height", "lines"}
    assert service.call("GET", "/")[1]["docs"] == "/docs"
    assert "/predict" in service.call("GET", "/openapi.json")[1]["paths"]


def test_a_failing_model_is_a_500_and_nothing_is_cached(
    steered: ImageService, tmp_path: Path, client: redis.Redis
) -> None:
    (tmp_path / "fail").touch()
    for _ in range(2):
        status, answer = steered.send(b"image")
        assert status == 500
        assert "secret" not in answer["detail"]
        assert re.search(r"job [0-9a-f]{6} in the log$", answer["detail"])
    assert steered.log.count("RuntimeError: the secret reason") == 2
    assert entries(client) == []
    (tmp_path / "fail").unlink()
    assert [steered.predict(b"image")["cache"] for _ in range(2)] == ["miss", "hit"]


def test_a_long_prediction_does_not_block_others_and_too_many_are_refused(
    steered: ImageService, tmp_path: Path, client: redis.Redis
) -> None:
    assert steered.predict(b"known")["cache"] == "miss"
    (tmp_path / "began").unlink()
    (tmp_path / "wait").touch()
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(steered.predict, b"long")
            wait_for(tmp_path / "began")
            # All of these would wait forever if the model were on the event loop.
            assert steered.predict(b"known")["cache"] == "hit"
            assert steered.call("GET", "/health")[0] == 200
            second = pool.submit(steered.predict, b"long")
            deadline = time.monotonic() + 60
            while steered.log.count("predict START") < 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert steered.send(b"known")[0] == 503
        finally:
            (tmp_path / "wait").unlink()
        assert [first.result()["cache"], second.result()["cache"]] == ["miss", "shared"]
    assert steered.predict(b"known")["cache"] == "hit"


def test_without_redis_the_service_is_degraded_and_answers(tmp_path: Path) -> None:
    with (
        running_server() as server,
        running(STEERED, tmp_path, server.url, STEERING_FOLDER=str(tmp_path)) as service,
    ):
        assert service.call("GET", "/health")[1]["status"] == "ok"
        assert [service.predict(b"image")["cache"] for _ in range(2)] == ["miss", "hit"]
        server.kill()
        status, health = service.call("GET", "/health")
        assert (status, health["status"], health["redis"]) == (200, "degraded", "down")
        assert service.predict(b"image")["cache"] == "unavailable"
        server.start()
        deadline = time.monotonic() + 60
        while service.call("GET", "/health")[1]["status"] != "ok":
            assert time.monotonic() < deadline
        # It is not stored: the entries might have been purged, so the first one is erased again.
        assert service.send(b"image")[1]["cache"] == "miss"


def test_clients_that_never_finish_their_request_do_no_harm(tmp_path: Path, server: Server) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    unfinished = f"{head}Content-Length: 100\r\n\r\n{{".encode()
    environment = {"STEERING_FOLDER": str(tmp_path), "BODY_SECONDS": "1", "MAX_REQUESTS": "1"}
    with running(STEERED, tmp_path, server.url, **environment) as service:
        with socket.create_connection(("127.0.0.1", service.port), 60) as connection:
            connection.sendall(unfinished)
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", service.port), 60) as connection:
            connection.sendall(unfinished)
        deadline = time.monotonic() + 60
        while service.log.count("predict END") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert service.predict(b"image")["cache"] == "miss"
        assert "Traceback" not in service.log


def test_slow_uploads_do_not_block_others(steered: ImageService) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(3):  # one more than may be answered at once
            connection = socket.create_connection(("127.0.0.1", steered.port), 60)
            stack.enter_context(connection)
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        wait_for_log(steered, "predict START", 3)
        assert steered.predict(b"image")["cache"] == "miss"


def test_too_many_uploads_are_refused(tmp_path: Path, server: Server) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    environment = {"STEERING_FOLDER": str(tmp_path), "MAX_UPLOADS": "1"}
    with (
        running(STEERED, tmp_path, server.url, **environment) as service,
        socket.create_connection(("127.0.0.1", service.port), 60) as connection,
    ):
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        wait_for_log(service, "predict START", 1)
        status, answer = service.send(b"image")
        assert (status, answer["detail"]) == (503, "too many uploads at once")


def test_a_busy_model_is_a_503_and_nothing_is_cached(
    steered: ImageService, tmp_path: Path, client: redis.Redis
) -> None:
    (tmp_path / "busy").touch()
    status, answer = steered.send(b"image")
    assert (status, answer["detail"]) == (503, "other images took longer than 1 s")
    assert entries(client) == []
    assert "Traceback" not in steered.log


def test_the_model_waits_for_others_only_up_to_its_limit() -> None:
    from examples.image_service.model import BusyError, ImageInput, OcrModel

    model, data = OcrModel(max_wait=0.01), ImageInput(content=image("WAITING"))
    with model._lock, pytest.raises(BusyError, match=r"longer than 0\.01 s"):
        model.predict(data)
    assert model.predict(data).lines[0].text == "WAITING"


def test_an_image_of_too_many_lines_is_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from examples.image_service import model as module
    from examples.image_service.images import TooMuchTextError

    monkeypatch.setattr(module, "MAX_LINES", 2)
    model = module.OcrModel()
    two, three = (
        module.ImageInput(content=image(*[f"LINE {n}" for n in range(count)])) for count in (2, 3)
    )
    assert len(model.predict(two).lines) == 2
    monkeypatch.setattr(model._engine, "recognize_txt", None)
    with pytest.raises(TooMuchTextError, match="more than 2 lines"):
        model.predict(three)


def test_it_starts_without_redis_and_with_the_cache_turned_off(tmp_path: Path) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    environment = {"STEERING_FOLDER": str(tmp_path), "MODEL_CACHE_DISABLED": "1"}
    with running(STEERED, tmp_path, nowhere, **environment) as service:
        health = service.call("GET", "/health")[1]
        assert (health["status"], health["redis"]) == ("ok", "off")
        assert service.predict(b"image")["cache"] == "off"


def test_workers_share_the_entries_and_a_stop_loses_none(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    with running(GUNICORN, tmp_path, server.url, WEB_CONCURRENCY="2") as service:
        receipt = image("SHARED 777")
        assert service.texts(receipt) == ("miss", ["SHARED 777"])
        answered: set[str] = set()
        deadline = time.monotonic() + 60
        while len(answered) < 2:
            assert service.texts(receipt)[0] == "hit"
            answered = set(re.findall(r"\[(\d+)\] INFO image_service: cache hit", service.log))
            assert time.monotonic() < deadline
        assert service.send(image("LAST 888"))[1]["cache"] == "miss"
        assert service.stop() == 0
    assert len(list(entries(client, KEYS))) == 2
    assert "Traceback" not in service.log


def test_the_model_gives_the_same_answer_in_every_thread() -> None:
    from examples.image_service.model import ImageInput, OcrModel, revision

    model = OcrModel()
    data = [ImageInput(content=image(f"NUMBER {n}", "SAME LINE")) for n in range(3)]
    expected = [model.predict(one) for one in data]
    assert expected[0] != expected[1]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(model.predict, data * 2)) == expected * 2
    assert OcrModel().predict(data[0]) == expected[0]
    assert model.revision == revision(20_000_000) != revision(1_000_000)


def test_another_model_file_is_another_revision(tmp_path: Path) -> None:
    from examples.image_service.model import MODEL_FILES, revision

    assert len(list(MODEL_FILES.glob("*.onnx"))) == 3
    (tmp_path / "det.onnx").write_bytes(b"one")
    before = revision(100, tmp_path)
    (tmp_path / "det.onnx").write_bytes(b"two")
    assert revision(100, tmp_path) != before


def test_the_model_makes_no_network_requests(tmp_path: Path) -> None:
    # What Python opens shows in audit events; what libraries open, in the files of the process.
    code = """
        import os, sys
        asked = []
        sys.addaudithook(lambda event, _: event.startswith("socket.") and asked.append(event))
        from examples.image_service.drawing import draw
        from examples.image_service.model import ImageInput, OcrModel
        OcrModel().predict(ImageInput(content=draw(["OFFLINE"])))
        folder = "/proc/self/fd"
        names = os.listdir(folder) if os.path.isdir(folder) else []
        links = [os.readlink(f"{folder}/{fd}") for fd in names if os.path.lexists(f"{folder}/{fd}")]
        connects = [event for event in asked if event not in ("socket.__new__", "socket.bind")]
        print(connects, [link for link in links if link.startswith("socket")], os.listdir("."))
    """
    home = {"HOME": str(tmp_path), "PYTHONPATH": IMPORTS, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stdout == "[] [] []\n"


def test_a_bad_setting_ends_the_start_and_is_named(tmp_path: Path) -> None:
    service = Service(STEERED, {"MAX_PIXELS": "many"}, tmp_path / "log", "/health")
    try:
        assert service.process.wait(60) != 0
    finally:
        service.stop()
    assert "MAX_PIXELS='many' is not a whole number" in service.log
