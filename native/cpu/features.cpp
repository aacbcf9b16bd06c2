#include "cpu/features.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "core/error.h"

namespace rp {
namespace {

constexpr Isa kBestFirst[] = {Isa::avx512, Isa::avx2, Isa::portable};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "portable";
  }
}

Isa parse_isa(const std::string& name) {
  for (Isa isa : kBestFirst) {
    if (name == isa_name(isa)) return isa;
  }
  fail("RP_CPU_ISA: expected avx512, avx2 or portable, got \"%s\".", name.c_str());
}

bool isa_available(Isa isa) {
  if (isa == Isa::portable) return true;
#if defined(RP_X86_KERNELS)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
#if defined(RP_EMULATED_AVX512)
  return avx2;
#endif
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kBestFirst) {
    if (isa_available(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa cpu_isa() {
  const char* forced = std::getenv("RP_CPU_ISA");
  if (forced == nullptr || *forced == '\0') return available_isas().front();
  const Isa isa = parse_isa(forced);
  if (!isa_available(isa)) {
    fail("RP_CPU_ISA=%s: this processor (or this build) lacks it. Unset the variable, or use RP_CPU_ISA=%s.",
         forced, isa_name(available_isas().front()));
  }
  return isa;
}

const CoreCaches& core_caches() {
  static const CoreCaches caches = [] {
    CoreCaches c = {0, 0, 0};
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    c = {sysconf(_SC_LEVEL1_DCACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE)};
#endif
    return CoreCaches{std::max<int64_t>(c.l1_bytes, 32 << 10), std::max<int64_t>(c.l2_bytes, 256 << 10),
                      std::max<int64_t>(c.last_bytes, 8 << 20)};
  }();
  return caches;
}

}  // namespace rp
