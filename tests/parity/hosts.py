"""Whose PyTorch has which numerics: what a machine must be, and the environment that makes it compute them.

kernels/host.c answers the other way round, from a machine to its numerics; parity.py compares the two.
"""
import os

# Read when torch, oneDNN or MKL are loaded, and only then.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
BF16 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
BOTH, EAGER = ("sdpa", "eager"), ("eager",)
ALL_THREADS = (2, 1, 3, 8)


class Host:
    """A kind of machine: has and lacks are flags of the CPU, vendor of CPUID; and what it can be told to compute."""

    def __init__(self, about, has, lacks=(), vendor=None, variables=None, attentions=BOTH):
        self.about, self.has, self.lacks, self.vendor = about, set(has), set(lacks), vendor
        self.variables, self.attentions = variables or {}, attentions

    def fits(self, flags, vendor):
        return self.has <= flags and not self.lacks & flags and self.vendor in (None, vendor)


AMD, INTEL = "AuthenticAMD", "GenuineIntel"
# numerics: the machines that have them, the better one first.
HOSTS = {
    "torch-cpu/avx512_bf16": [
        Host("an AMD CPU with avx512_bf16", ["avx512_bf16"], vendor=AMD)],
    "torch-cpu/avx512_bf16,mkl=intel": [
        Host("an Intel CPU with avx512_bf16 and no amx", ["avx512_bf16"], ["amx_bf16", "avx512_fp16"], INTEL),
        Host("an Intel CPU with amx", ["amx_bf16"], vendor=INTEL, variables={**BF16, "MKL_ENABLE_INSTRUCTIONS": "AVX512_E3"})],
    "torch-cpu/avx512_bf16,mkl=amx": [
        Host("an Intel CPU with amx", ["amx_bf16"], ["amx_fp16"], INTEL, BF16)],
    "torch-cpu/avx2": [
        Host("an AMD CPU with avx2", ["avx2", "fma"], vendor=AMD, variables=AVX2),
        Host("an Intel CPU with avx2 (eager)", ["avx2", "fma"], vendor=INTEL, variables=AVX2, attentions=EAGER)],
    "torch-cpu/avx2,mkl=amx": [
        Host("an Intel CPU with amx", ["amx_bf16"], ["amx_fp16"], INTEL, AVX2)],
    "torch-cpu/amx_bf16": [
        Host("an Intel CPU with amx", ["amx_bf16"], ["amx_fp16"], INTEL),
        Host("an Intel CPU with amx_fp16 (eager)", ["amx_bf16", "amx_fp16"], vendor=INTEL, attentions=EAGER)],
    "torch-cpu/avx512": [
        Host("an Intel CPU with avx512", ["avx512f", "avx512bw", "avx512dq", "avx512vl"], vendor=INTEL,
             variables={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, attentions=EAGER)],
}
# Numerics whose bits depend on torch.get_num_threads().
OF_THREADS = ("torch-cpu/amx_bf16", "torch-cpu/avx512")


def cpu_info(key):
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        line = next((s for s in f if s.split(":")[0].strip() == key), ":")
    return line.split(":", 1)[1].strip()


def cpu_flags():
    return set(cpu_info("flags").split())


def host_of(numerics):
    """How this machine has a numerics; None where it has not."""
    flags, vendor = cpu_flags(), cpu_info("vendor_id")
    return next((host for host in HOSTS[numerics] if host.fits(flags, vendor)), None)


def why_not(numerics):
    """Why this machine cannot make PyTorch compute a numerics; None where it can."""
    return None if host_of(numerics) else "this is not " + " or ".join(host.about for host in HOSTS[numerics])


def attentions(numerics):
    """Those that PyTorch computes here with the bits of that numerics."""
    return host_of(numerics).attentions


def threads_of(numerics, usual):
    """Numbers of torch's threads to compare with."""
    return ALL_THREADS if numerics in OF_THREADS else usual


def environment(numerics):
    """The environment of a process in which PyTorch computes that numerics."""
    env = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    # Threads that wait without spinning leave the processor to the server.
    return {**env, **host_of(numerics).variables, "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false",
            "OMP_WAIT_POLICY": "PASSIVE"}


def own():
    """What PyTorch computes here when it is told nothing, as far as it is mirrored; else the portable ones."""
    told = [n for n, hosts in HOSTS.items() if host_of(n) and not host_of(n).variables]
    if told:
        return told[-1]
    return "torch-cpu/avx2" if host_of("torch-cpu/avx2") and "avx512f" not in cpu_flags() else "torch-cpu/avx512_bf16"
