#include "core/error.h"

#include <cstdarg>
#include <cstdio>
#include <utility>

namespace rp {

void fail(const char* format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  throw Error(message);
}

CorruptError::CorruptError(std::string file, int64_t offset, std::string expected, std::string got)
    : Error(file + ": damaged at byte " + std::to_string(offset) + ": expected " + expected + ", got " + got +
            "."),
      file(std::move(file)),
      expected(std::move(expected)),
      got(std::move(got)),
      offset(offset) {}

}  // namespace rp
