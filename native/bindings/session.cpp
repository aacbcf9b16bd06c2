#include "bindings/bindings.h"

namespace rp {

void register_session(Napi::Env, Napi::Object) {}

}  // namespace rp
