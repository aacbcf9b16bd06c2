// Native exceptions as JavaScript errors.
#pragma once
#include <exception>

#include "bindings/bindings.h"

namespace rp {

// Napi::Error passes; rp::CorruptError gets code 'RP_CORRUPT' and its parts (src/errors.ts: fromNative);
// anything else keeps its message. Call on the JavaScript thread.
Napi::Error to_js_error(Napi::Env, std::exception_ptr);

}  // namespace rp
