// Relay: carries bytes between two connected sockets, both ways, for as long as there is something to carry.
#pragma once

#include "base/cancel.hpp"
#include "base/result.hpp"

namespace caisson::wire {

/// Until both directions have ended, one side is gone altogether, or `stop` fires. The end of one direction is passed on while the other goes on.
/// The sockets are borrowed and stay open; their modes do not matter. Errors: io of poll alone; a peer that is gone is an ordinary end.
Status relay(int one, int other, Cancel stop);

}  // namespace caisson::wire
