// Errors inside native code: thrown as rp::Error, turned into RpError at the C ABI, and into a JS Error at the
// binding. Messages say where, what was expected, what came, what to do.
#pragma once
#include <stdexcept>
#include <string>

namespace rp {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// printf-style.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace rp
