// caisson-worker: reads hostile archives for caissond, without any right of its own. Not for people to call.
#include "image/worker.hpp"

int main() { return caisson::image::worker_main(); }
