// caisson-worker: reads hostile archives for caissond and the command line, without any right of its own. Not for people to call.
#include <string_view>

#include "image/examine.hpp"
#include "image/layer_server.hpp"
#include "image/ready_workers.hpp"
#include "image/worker.hpp"
#include "inventory/task.hpp"

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == caisson::image::examine_argument) return caisson::image::examiner_main(caisson::inventory::answer_question);
  if (argc == 2 && std::string_view(argv[1]) == caisson::image::ready_argument) return caisson::image::ready_worker_main();
  if (argc == 2 && std::string_view(argv[1]) == caisson::image::serve_argument) return caisson::image::layer_server_main();
  return caisson::image::worker_main();
}
