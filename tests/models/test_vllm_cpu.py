"""What a vLLM on the CPU is given: its environment, on a machine with everything and on a bare one, and its slots."""

import sysconfig
from pathlib import Path

import pytest

from alphatier_models.vllm import adapter_options, cpu_environment

needs_headers = pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").is_file(), reason="this Python came without its C headers"
)


def _with_compiler(folder: Path, name: str = "g++") -> dict[str, str]:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_without_a_compiler_torch_does_not_compile(tmp_path: Path) -> None:
    assert cpu_environment({"PATH": str(tmp_path)}, tmp_path, alone=True)["TORCH_COMPILE_DISABLE"] == "1"


@needs_headers
def test_with_one_it_does(tmp_path: Path) -> None:
    assert cpu_environment(_with_compiler(tmp_path), tmp_path, alone=True) == {"VLLM_CPU_KVCACHE_SPACE": "1"}


@needs_headers
def test_the_compiler_may_have_another_name(tmp_path: Path) -> None:
    variables = _with_compiler(tmp_path, "clang++")
    assert "TORCH_COMPILE_DISABLE" in cpu_environment(variables, tmp_path, alone=True)
    assert "TORCH_COMPILE_DISABLE" not in cpu_environment({**variables, "CXX": "clang++"}, tmp_path, alone=True)


def test_libraries_that_the_set_up_brought_come_after_the_operators(tmp_path: Path) -> None:
    own = tmp_path / "lib" / "alphatier-engine"
    assert "LD_LIBRARY_PATH" not in cpu_environment({"PATH": ""}, tmp_path, alone=True)
    own.mkdir(parents=True)
    assert cpu_environment({"PATH": ""}, tmp_path, alone=True)["LD_LIBRARY_PATH"] == str(own)
    asked = {"PATH": "", "LD_LIBRARY_PATH": "/opt/lib"}
    assert cpu_environment(asked, tmp_path, alone=True)["LD_LIBRARY_PATH"] == f"/opt/lib:{own}"


def test_what_the_operator_has_set_stays(tmp_path: Path) -> None:
    variables = {
        "PATH": "",
        "VLLM_CPU_KVCACHE_SPACE": "8",
        "VLLM_CPU_OMP_THREADS_BIND": "0-3",
        "TORCH_COMPILE_DISABLE": "",
    }
    assert cpu_environment(variables, tmp_path, alone=False) == {}
    assert cpu_environment({"PATH": ""}, tmp_path, alone=False)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


@pytest.mark.parametrize(("on_cpu", "changing", "slots"), [(True, False, 3), (True, True, 5), (False, True, 3)])
def test_on_a_cpu_a_slot_stays_empty_which_is_what_the_base_gets_there(
    on_cpu: bool, changing: bool, slots: int
) -> None:
    adapters = {"brisk": Path("a"), "terse": Path("b")}
    options = adapter_options(adapters, 16, on_cpu=on_cpu, changing=changing)
    assert options[options.index("--max-loras") + 1] == str(slots)
    assert adapter_options({}, 16, on_cpu=on_cpu) == []
