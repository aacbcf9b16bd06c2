#include "bindings/errors.h"

#include <new>

#include "core/error.h"

namespace rp {

Napi::Error to_js_error(Napi::Env env, std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Napi::Error& error) {
    return error;
  } catch (const CorruptError& corrupt) {
    Napi::Error error = Napi::Error::New(env, corrupt.what());
    error.Set("code", "RP_CORRUPT");
    error.Set("file", corrupt.file);
    error.Set("offset", Napi::Number::New(env, static_cast<double>(corrupt.offset)));
    error.Set("expected", corrupt.expected);
    error.Set("got", corrupt.got);
    return error;
  } catch (const std::bad_alloc&) {
    return Napi::Error::New(env, "out of memory. Take a smaller --batch-size, or free memory.");
  } catch (const std::exception& error) {
    return Napi::Error::New(env, error.what());
  } catch (...) {
    return Napi::Error::New(env, "unknown C++ exception");
  }
}

}  // namespace rp
