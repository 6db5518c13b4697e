"""The public sets that the benchmarks read: none is shipped, each is checked before it is used."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from pathlib import Path

# sha256 of the upstream bytes, uncompressed, by folder and file; of an archive, of its members.
FILES = {
    "begin": {
        "begin_dev_wow.tsv.gz": "2ebfc95a1ff267e12dcce3250da4d158e1811c62e9e1a0d56f110efc9ace0178",
        "begin_dev_cmu.tsv.gz": "9482294df23cf08a976773ca73203b84f7178534ecab1a206eaade365e97071c",
        "begin_dev_tc.tsv.gz": "d799a8cb3635de41b7f284dcfc872544ddeadcbae0c2ffd684270cce671f7711",
    },
    "summedits_dev": {
        "summedits_sales_email.json.gz": (
            "8267fffdd318e513bde0f7efbd9226f908f1a5a2944f783902fdd0d6b0b8ccef"
        ),
        "summedits_scitldr.json.gz": (
            "b4d359277bafa11587505f0332797266b69c316c713db17376f0d99413e4b350"
        ),
    },
    "halueval_general": {
        "general_data.json.gz": "73302cd97666b808fb94b5d8a4a2c924049c9484e609017a2f808c4a6d539219",
    },
    "scitldr": {
        "dev.jsonl.gz": "3191fa98ccc09521332b7a1cd63b1930be4e8df125a235ccd31e40329709525e",
        "train.jsonl.gz": "b222771d387be585cfdf5ae957b36757138415a352e0a3e3b23f73f87c3b1119",
    },
    # CC BY-NC-SA 4.0: measured on, and nothing of it is in the package.
    "dialogsum": {
        "dialogsum.dev.jsonl.gz": (
            "436721e0a3571eef7072964f80e042fb151d8c6178db1a688ce8f803bbf0a13f"
        ),
    },
    "frank_signals": {
        "human_annotations.json.gz": (
            "7be2dfd49ad2f2582ab28578cce1dbf256fd46415a0f902a472421bca6fe31d2"
        ),
        "baseline_factuality_metrics_outputs.json.gz": (
            "b64e54b42212b5780e27cab72a5d895e4f32a300906dcfecb91345e1ab99443c"
        ),
        "validation_split.txt": "7967df16bc253f0c8f0a14fd5af44cdbd01d65a093e8ed988fd5827356fd35ec",
        "test_split.txt": "d6d14b924bf4f4f5aaf59bb370ecb50e461eb0559b8c5aa0d659432bb6f90fac",
    },
    "pandalm": {
        "testset-v1.json.gz": "cc154f9067c7382d7ea86f8f246511a5e1ac87e1fddd845c5938d789505b07a4",
        "gpt-3.5-turbo-testset-v1.json.gz": (
            "4c00aa7b3eeae504050a037422ba6f5b0a2ee041680f47bb77b8a4b549b128e3"
        ),
        "pandalm-7b-testset-v1.json.gz": (
            "9a40b62a7bb2aa87ca77eb8bfcb51539b5a62f974ce91678d30e834d65ed0a7e"
        ),
    },
    "clinc150": {
        "data_full.json.gz": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
        "domains.json": "b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
    },
    "banking77": {
        "train.csv.gz": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    },
    "routerarena_sub10": {
        "claude-3-haiku-20240307.jsonl.gz": (
            "9f5bed666a524d74e629091b57ef2fdf644181dcc1039ef44b44460f254d150a"
        ),
        "gemini-2.0-flash-001.jsonl.gz": (
            "5c2364f65a4c309bc531338672445894957a6465be71e31a21a6727028404c20"
        ),
        "cost.json": "a8175554ab0ed023a2e1f807c901fa305688567d2a0ff8dae3aed089663d1907",
    },
    "routellm_mmlu": {
        # Of the 57 files under routellm/evals/mmlu/responses, see `unpacked`.
        "mmlu_responses.tar.gz": (
            "07879ee2d40e4887649964a08a1b3d8e567614857741d581007d8e8b93d8fcf8"
        ),
        "contaminated_prompts.jsonl": (
            "9606c968198eabf5efa46ccba31286392c8e35525d83c86661618ffc5ec6d40e"
        ),
    },
}
ORIGINS = {
    "begin": "google/BEGIN-dataset @ 6e65f0d5a1ed1b9574643a7640ff1678d4e979b5",
    "summedits_dev": "salesforce/factualNLG @ 0da1dfa62c783218d26208c1796d3a2605bec745",
    "halueval_general": "RUCAIBox/HaluEval @ b7253db3cdaa0ab2c382f92b26b390109174f77e",
    "scitldr": "allenai/scitldr @ 5ccad9c00a60ad75c9e04abf7f27d0f53f983b20",
    "dialogsum": "cylnlp/dialogsum @ 848cc8c05e0a04def79326539de827f1b28786a0",
    "frank_signals": "artidoro/frank @ 80a88fb12cc0bfc17ff6ee2c5ebb0c4f4dd8a5f4",
    "pandalm": "WeOpenML/PandaLM @ 3871806e72b4832f815ecafd24d3503c73403f48",
    "clinc150": "clinc/oos-eval @ 828f8093932c8fe6ca7936c3d2e52903b1c523de",
    "banking77": "PolyAI-LDN/task-specific-datasets @ 57ec275d8078af65b7731c2a98be812d844a6d6b",
    "routerarena_sub10": "RouteWorks/RouterArena @ 4714a9ad73e897a1241e73a86c9297fed2e871d8",
    "routellm_mmlu": "lm-sys/RouteLLM @ 0b64fdafe049e596a3f5657c219329f24af24198",
}


def load(folder: str, file: str) -> bytes:
    """Read a file of a public set, uncompressed and checked.

    Args:
        folder: of the set, inside the folder that ``LOOP_BENCH_DATA`` names.
        file: in it; ``.gz`` is unpacked.

    Raises:
        FileNotFoundError: the file is not there; one line with where to get it.
        ValueError: it is not the upstream one; names file and checksums.
    """
    path = Path(os.environ.get("LOOP_BENCH_DATA", "../shared/data")) / folder / file
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: set LOOP_BENCH_DATA to the folder that holds {folder}/, with "
            f"{file} from github.com/{ORIGINS[folder]}"
        )
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    found = _archive_sha256(raw) if ".tar" in path.suffixes else hashlib.sha256(raw).hexdigest()
    if found != FILES[folder][file]:
        raise ValueError(
            f"{path}: the sha256 of the uncompressed bytes is {found}, expected "
            f"{FILES[folder][file]}; get it again from github.com/{ORIGINS[folder]}"
        )
    return raw


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Files of a tar archive by name, in the order of their names."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = ((m.name, tar.extractfile(m)) for m in tar.getmembers())
        return dict(sorted((name, file.read()) for name, file in files if file is not None))


def _archive_sha256(archive: bytes) -> str:
    """Of each member's name, size and bytes: who packed it, when and how does not matter."""
    whole = hashlib.sha256()
    for name, content in unpacked(archive).items():
        whole.update(f"{name}\n{len(content)}\n".encode() + content)
    return whole.hexdigest()
