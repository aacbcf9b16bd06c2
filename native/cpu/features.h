// Which instruction sets the vector kernels may use on this machine. Every kernel source listed in
// RP_VECTOR_SOURCES (native/ops/CMakeLists.txt) is compiled once per instruction set, each time inside its
// own namespace (cpu/simd.h), and offers a table of functions; code outside asks for the table of an `Isa`.
//
// A vector source must not instantiate std:: templates or inline functions of shared headers: the linker
// keeps one copy of such a function for the whole addon, and that copy could hold instructions the machine
// lacks.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace rp {

enum class Isa { avx512, avx2, portable };

const char* isa_name(Isa);
// Throws rp::Error for an unknown name.
Isa parse_isa(const std::string& name);
// Compiled in and supported by this processor.
bool isa_available(Isa);
// Best first; never empty.
std::vector<Isa> available_isas();
// The best available, or the one that RP_CPU_ISA=avx512|avx2|portable names (an error if the machine lacks
// it). The variable is read at every call.
Isa cpu_isa();

// Data caches of a core and the last that cores share, as the system tells; where it does not, those of small
// x86-64 processors.
struct CoreCaches {
  int64_t l1_bytes, l2_bytes, last_bytes;
};
const CoreCaches& core_caches();

}  // namespace rp

// For a header: `const Table& name()` exists in each instruction set's namespace; declares them and, beside
// them, `const Table& name(rp::Isa)`. Use inside namespace rp.
#if defined(RP_X86_KERNELS)
#define RP_ISA_TABLE(Table, name)                      \
  namespace avx512 {                                   \
  const Table& name();                                 \
  }                                                    \
  namespace avx2 {                                     \
  const Table& name();                                 \
  }                                                    \
  namespace portable {                                 \
  const Table& name();                                 \
  }                                                    \
  [[maybe_unused]] static const Table& name(Isa isa) { \
    if (isa == Isa::avx512) return avx512::name();     \
    if (isa == Isa::avx2) return avx2::name();         \
    return portable::name();                           \
  }
#else
#define RP_ISA_TABLE(Table, name) \
  namespace portable {            \
  const Table& name();            \
  }                               \
  [[maybe_unused]] static const Table& name(Isa) { return portable::name(); }
#endif
