"""What tests/kernels/cuda_report.py reads from ptxas and cuobjdump, and the faults it finds."""
import importlib.util
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPEC = importlib.util.spec_from_file_location(
    "cuda_report", os.path.join(ROOT, "tests", "kernels", "cuda_report.py"))
report = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(report)

PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z5spillPf' for 'sm_80'
ptxas info    : Function properties for _Z5spillPf
    448 bytes stack frame, 964 bytes spill stores, 1060 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 448 bytes cumulative stack size, 360 bytes cmem[0]
ptxas info    : Compiling entry function '_Z1kPff' for 'sm_80'
ptxas info    : Function properties for _Z1kPff
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 128 bytes smem, 364 bytes cmem[0]
"""
SASS = """arch = sm_80
\t\tFunction : _Z1kPff
        /*0000*/                   FMUL R0, R0, R7 ;                                    /* 0x0000000700007221 */
                                                                                        /* 0x000fca0000000000 */
        /*0010*/              @!P0 FADD.FTZ R6, RZ, R0 ;                                /* 0x00000010ff068819 */
        /*0020*/               @P2 MUFU.RCP R6, R0 ;                                    /* 0x00000010ff068819 */
"""
KEY = ("_Z1kPff", "sm_80")


def faults(rows):
    return report.expected_faults(report.read_expected(rows), {"kernels/cuda/aten/x.cu": report.sass_facts(SASS)},
                                  {"_Z1kPff": "k"}.__getitem__)


def test_ptxas():
    facts = report.ptxas_facts(PTXAS)
    assert facts[KEY] == {"registers": 10, "stack": 0, "spills": 0, "shared": 128}
    assert facts[("_Z5spillPf", "sm_80")] == {"registers": 32, "stack": 448, "spills": 2024, "shared": 0}


def test_sass():
    size, counts = report.sass_facts(SASS)[KEY]
    assert size == 0x30
    assert counts == {"FMUL": 1, "FADD": 1, "FADD.FTZ": 1, "MUFU": 1, "MUFU.RCP": 1}


def test_contraction_is_found():
    plain, fused = report.sass_facts(SASS), report.sass_facts(SASS.replace("FMUL", "FFMA"))
    assert report.fused_faults(str, plain, plain) == []
    assert len(report.fused_faults(str, plain, fused)) == 2
    assert len(report.fused_faults(str, plain, {})) == 1


def test_expectations():
    assert faults("*/aten/*.cu k FMUL !FFMA MUFU.RCP # why") == []
    assert len(faults("kernels/cuda/aten/x.cu * !FMUL FFMA")) == 2
    assert len(faults("kernels/cuda/*.cu * FMUL")) == 1  # a folder is no part of a name
    assert len(faults("kernels/cuda/aten/x.cu other FMUL")) == 1
