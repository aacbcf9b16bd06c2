// The C ABI's border: no exception crosses it (engine_abi.h).
#pragma once
#include <cstdio>
#include <exception>
#include <new>

#include "engine/engine_abi.h"

namespace rp {

inline void set_error(RpError* error, const char* message) {
  if (error) std::snprintf(error->message, sizeof error->message, "%s", message);
}

// Runs body; 0, or 1 with the exception's text in `error`.
template <class Body>
int guarded(RpError* error, const Body& body) noexcept {
  try {
    body();
    return 0;
  } catch (const std::bad_alloc&) {
    set_error(error, "out of memory. Take a smaller --batch-size, or free memory.");
  } catch (const std::exception& e) {
    set_error(error, e.what());
  } catch (...) {
    set_error(error, "unknown C++ exception");
  }
  return 1;
}

}  // namespace rp
