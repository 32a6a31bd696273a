// cuemu.h - one source, two targets.
// Under nvcc: thin macros over CUDA.  Under g++/clang++: the threads of a block
// run as fibers on one OS thread, blocks are spread over OS threads.
// Compile the host side with -ffp-contract=off (checked below as far as possible).
#pragma once
#include <cstdint>
#include <cstddef>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>
#include <sys/mman.h>
#if !defined(__x86_64__) || defined(CUEMU_UCONTEXT)
#include <ucontext.h>
#define CUEMU_USE_UCONTEXT 1
#endif
#if defined(__FAST_MATH__)
#error "cuemu needs IEEE arithmetic: no -ffast-math"
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// function-local "__shared__ T x[N];": one instance per OS thread = per running block
#define __shared__ static thread_local
#define __constant__ static

struct uint3_ { unsigned x, y, z; };
using uint3 = uint3_;
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
using cudaStream_t = void*;
constexpr int warpSize = 32;

namespace cuemu {
enum class St : uint8_t { Run, Barrier, Warp, Done };
enum class Op : uint8_t { Shfl, Ballot, Sync };
struct Fiber {
#ifdef CUEMU_USE_UCONTEXT
  ucontext_t uc;
#else
  void* sp;
#endif
  uint3 tid; int linear, lane;
  St st; Op op; uint32_t mask; int src; uint64_t val, res;
};
struct Config { int os_threads = 1; int order = 0; /*0 fwd, 1 reverse, >=2 seed*/ size_t stack = 64 << 10; };
inline Config& config() { static Config c; return c; }
struct Stats { std::atomic<uint64_t> switches{0}, barriers{0}, warp_ops{0}; };
inline Stats& stats() { static Stats s; return s; }

struct Worker {
  std::vector<Fiber> f; std::vector<int> perm; char* stacks = nullptr; size_t nstacks = 0, stack_size = 0;
  Fiber* cur = nullptr; uint3 bid{}; dim3 bdim, gdim; const std::function<void()>* body = nullptr;
  std::vector<unsigned char> dyn; uint64_t nsw = 0, nbar = 0, nwarp = 0;
#ifdef CUEMU_USE_UCONTEXT
  ucontext_t main;
#else
  void* main_sp = nullptr;
#endif
  ~Worker() { if (stacks) munmap(stacks, nstacks * stack_size); }
};
inline thread_local Worker* W = nullptr;

[[noreturn]] inline void die(const char* m) {
  std::fprintf(stderr, "cuemu: %s (block %u,%u,%u thread %u,%u,%u)\n", m, W->bid.x, W->bid.y, W->bid.z,
               W->cur ? W->cur->tid.x : 0, W->cur ? W->cur->tid.y : 0, W->cur ? W->cur->tid.z : 0);
  std::abort();
}
#ifndef CUEMU_USE_UCONTEXT
__attribute__((naked, noinline)) inline void swtch(void** /*save*/, void* /*load*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp,(%rdi)\n movq %rsi,%rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif
__attribute__((noinline)) inline void yield_() {
#ifdef CUEMU_USE_UCONTEXT
  swapcontext(&W->cur->uc, &W->main);
#else
  swtch(&W->cur->sp, W->main_sp);
#endif
}
inline void entry() {
  (*W->body)();
  W->cur->st = St::Done;
  yield_();
  __builtin_trap();
}
inline void resume(Fiber& x) {
  W->cur = &x; W->nsw++;
#ifdef CUEMU_USE_UCONTEXT
  swapcontext(&W->main, &x.uc);
#else
  swtch(&W->main_sp, x.sp);
#endif
}
inline void run_warp(int w0, int n) {
  Worker& k = *W;
  for (;;) {
    for (int j = 0; j < n; ++j) { Fiber& x = k.f[w0 + k.perm[j] % n]; if (x.st == St::Run) resume(x); }
    int first = -1;
    for (int j = 0; j < n; ++j) if (k.f[w0 + j].st == St::Warp) { first = j; break; }
    if (first < 0) return;
    bool progressed = false;
    uint32_t seen = 0;
    for (int j = 0; j < n; ++j) {
      Fiber& a = k.f[w0 + j];
      if (a.st != St::Warp || (seen >> j & 1)) continue;
      uint32_t m = a.mask & (n == 32 ? 0xffffffffu : (1u << n) - 1);
      k.cur = &a;
      if (!(m >> j & 1)) die("lane calls a warp primitive with a mask that leaves itself out");
      bool ready = true; uint32_t ballot = 0;
      for (int l = 0; l < n; ++l) if (m >> l & 1) {
        Fiber& b = k.f[w0 + l];
        if (b.st != St::Warp) { ready = false; break; }
        if (b.mask != a.mask || b.op != a.op) die("lanes of one mask sit at different warp primitives");
        if (b.val) ballot |= 1u << l;
      }
      if (!ready) continue;
      for (int l = 0; l < n; ++l) if (m >> l & 1) {
        Fiber& b = k.f[w0 + l];
        if (b.op == Op::Shfl) b.res = (m >> b.src & 1) ? k.f[w0 + b.src].val : 0x7fc0dead7fc0deadull;  // poison
        else if (b.op == Op::Ballot) b.res = ballot;
      }
      for (int l = 0; l < n; ++l) if (m >> l & 1) k.f[w0 + l].st = St::Run;
      seen |= m; progressed = true; k.nwarp++;
    }
    if (!progressed) die("warp primitive waits for lanes that exited or stand at __syncthreads");
  }
}
inline void run_block() {
  Worker& k = *W;
  const int n = int(k.bdim.x * k.bdim.y * k.bdim.z);
  const size_t ss = config().stack;
  if (k.nstacks < size_t(n) || k.stack_size != ss) {
    if (k.stacks) munmap(k.stacks, k.nstacks * k.stack_size);
    k.stacks = (char*)mmap(nullptr, n * ss, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (k.stacks == MAP_FAILED) die("no memory for fiber stacks");
    k.nstacks = n; k.stack_size = ss;
  }
  k.f.resize(n);
  for (int i = 0; i < n; ++i) {
    Fiber& x = k.f[i];
    x.linear = i; x.lane = i & 31; x.st = St::Run;
    x.tid = {unsigned(i) % k.bdim.x, unsigned(i) / k.bdim.x % k.bdim.y, unsigned(i) / (k.bdim.x * k.bdim.y)};
#ifdef CUEMU_USE_UCONTEXT
    getcontext(&x.uc); x.uc.uc_stack.ss_sp = k.stacks + i * ss; x.uc.uc_stack.ss_size = ss; x.uc.uc_link = nullptr;
    makecontext(&x.uc, (void (*)())entry, 0);
#else
    // top stays 16-aligned at "call entry": push a fake return, then the six saved registers
    uintptr_t top = (uintptr_t)(k.stacks + (i + 1) * ss) & ~uintptr_t(15);
    void** sp = (void**)top; *--sp = nullptr; *--sp = (void*)&entry;
    for (int r = 0; r < 6; ++r) *--sp = nullptr;
    x.sp = sp;
#endif
  }
  for (;;) {
    const int nw = (n + 31) / 32;
    for (int wi = 0; wi < nw; ++wi) {
      int w = config().order == 1 ? nw - 1 - wi : wi;
      run_warp(w * 32, n - w * 32 < 32 ? n - w * 32 : 32);
    }
    int bar = 0, done = 0;
    for (auto& x : k.f) (x.st == St::Barrier ? bar : done)++;
    if (!bar) break;
    k.nbar++;
    for (auto& x : k.f) if (x.st == St::Barrier) x.st = St::Run;
  }
}
inline void launch(dim3 g, dim3 b, size_t smem, const std::function<void()>& body) {
  const size_t nb = size_t(g.x) * g.y * g.z;
  if (b.x * b.y * b.z == 0 || b.x * b.y * b.z > 1024 || nb == 0) { std::fprintf(stderr, "cuemu: bad launch\n"); std::abort(); }
  std::atomic<size_t> next{0};
  auto work = [&] {
    static thread_local Worker wk; W = &wk;
    wk.bdim = b; wk.gdim = g; wk.body = &body; wk.nsw = wk.nbar = wk.nwarp = 0;
    wk.dyn.resize(smem + 16);
    wk.perm.resize(32);
    for (int i = 0; i < 32; ++i) wk.perm[i] = config().order == 1 ? 31 - i : i;
    uint64_t s = config().order;
    if (config().order >= 2)
      for (int i = 31; i > 0; --i) { s = s * 6364136223846793005ull + 1442695040888963407ull; std::swap(wk.perm[i], wk.perm[(s >> 33) % (i + 1)]); }
    for (size_t i; (i = next.fetch_add(1)) < nb;) {
      std::memset(wk.dyn.data(), 0xff, wk.dyn.size());  // NaN poison
      wk.bid = {unsigned(i % g.x), unsigned(i / g.x % g.y), unsigned(i / (size_t(g.x) * g.y))};
      run_block();
    }
    stats().switches += wk.nsw; stats().barriers += wk.nbar; stats().warp_ops += wk.nwarp;
  };
  int nt = config().os_threads; if (size_t(nt) > nb) nt = int(nb);
  if (nt <= 1) { work(); return; }
  std::vector<std::thread> t; for (int i = 1; i < nt; ++i) t.emplace_back(work);
  work(); for (auto& x : t) x.join();
}
template <class T> inline uint64_t pack(T v) { static_assert(sizeof(T) <= 8); uint64_t u = 0; std::memcpy(&u, &v, sizeof v); return u; }
template <class T> inline T unpack(uint64_t u) { T v; std::memcpy(&v, &u, sizeof v); return v; }
inline uint64_t warp_op(Op op, uint32_t mask, uint64_t val, int src) {
  Fiber* c = W->cur; c->op = op; c->mask = mask; c->val = val; c->src = src; c->st = St::Warp;
  yield_(); return c->res;
}
inline void* dyn_smem() { return (void*)(((uintptr_t)W->dyn.data() + 15) & ~uintptr_t(15)); }
}  // namespace cuemu

#define threadIdx (cuemu::W->cur->tid)
#define blockIdx (cuemu::W->bid)
#define blockDim (cuemu::W->bdim)
#define gridDim (cuemu::W->gdim)
#define LAUNCH(kernel, grid, block, smem, stream, ...) \
  cuemu::launch((grid), (block), (smem), [=] { kernel(__VA_ARGS__); })
#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(cuemu::dyn_smem())

inline void __syncthreads() { cuemu::W->cur->st = cuemu::St::Barrier; cuemu::yield_(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuemu::warp_op(cuemu::Op::Sync, mask, 0, 0); }
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
template <class T> inline T __shfl_sync(unsigned m, T v, int src, int width = 32) {
  int l = cuemu::W->cur->lane;
  return cuemu::unpack<T>(cuemu::warp_op(cuemu::Op::Shfl, m, cuemu::pack(v), (l & ~(width - 1)) | (src & (width - 1))));
}
template <class T> inline T __shfl_down_sync(unsigned m, T v, unsigned d, int width = 32) {
  int l = cuemu::W->cur->lane, s = l + int(d);
  return cuemu::unpack<T>(cuemu::warp_op(cuemu::Op::Shfl, m, cuemu::pack(v), (l & (width - 1)) + int(d) >= width ? l : s));
}
template <class T> inline T __shfl_xor_sync(unsigned m, T v, int x, int width = 32) {
  int l = cuemu::W->cur->lane, s = l ^ x;
  return cuemu::unpack<T>(cuemu::warp_op(cuemu::Op::Shfl, m, cuemu::pack(v), (s & ~(width - 1)) > (l & ~(width - 1)) ? l : s));
}
inline unsigned __ballot_sync(unsigned m, int p) { return unsigned(cuemu::warp_op(cuemu::Op::Ballot, m, p != 0, 0)); }
inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, !p) == 0; }
inline int atomicAdd(int* p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }

// exactly rounded arithmetic
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline unsigned __float_as_uint(float f) { unsigned u; std::memcpy(&u, &f, 4); return u; }
inline float __uint_as_float(unsigned u) { float f; std::memcpy(&f, &u, 4); return f; }
inline int __float_as_int(float f) { return int(__float_as_uint(f)); }
inline float __int_as_float(int i) { return __uint_as_float(unsigned(i)); }

// Stand-ins for CUDA's math library in emulation: correctly rounded, where the device's own functions may be off by an ulp.
// Kernels call expf, rsqrtf, cosf, sinf of CUDA when built by nvcc; a test that needs the device's exact bits runs on a GPU.
inline float cuda_rsqrtf(float x) { return float(1.0 / std::sqrt(double(x))); }
inline float cuda_expf(float x) { return float(std::exp(double(x))); }
inline float cuda_cosf(float x) { return float(std::cos(double(x))); }
inline float cuda_sinf(float x) { return float(std::sin(double(x))); }
