#include "bindings/bindings.h"

namespace rp {

void register_kernels(Napi::Env, Napi::Object) {}

}  // namespace rp
