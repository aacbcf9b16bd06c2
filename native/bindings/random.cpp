#include "bindings/bindings.h"

namespace rp {

void register_random(Napi::Env, Napi::Object) {}

}  // namespace rp
