// Entry point of random_pruning.node.
#include "bindings/bindings.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  rp::register_random(env, exports);
  rp::register_session(env, exports);
  rp::register_data(env, exports);
  rp::register_kernels(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(random_pruning, init)
