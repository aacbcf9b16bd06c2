// Errors inside native code: thrown as rp::Error, turned into RpError at the C ABI, and into a JS Error at
// the binding. Messages say where, what was expected, what came, what to do.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace rp {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A damaged file: which, at which byte, what was expected, what came. Exit code 4 (src/errors.ts).
class CorruptError : public Error {
 public:
  CorruptError(std::string file, int64_t offset, std::string expected, std::string got);
  const std::string file, expected, got;
  const int64_t offset;
};

// printf-style.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace rp
