// What administrators ask of a registry: ls, rm, gc, du, metrics; over the server's own socket, or on a folder that no server has.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "registry/answer.hpp"
#include "registry/service.hpp"

namespace caisson::registry {

class Admin {
 public:
  explicit Admin(Service& service) : service_(service) {}
  /// GET /repositories[?name=R], GET /usage, POST /clean-up[?untagged=1&grace=1h], DELETE /items?name=R[:TAG|@DIGEST], GET /metrics. Thread-safe.
  Answer answer(std::string_view method, std::string_view path, std::string_view query);

 private:
  Result<Answer> dispatch(std::string_view method, std::string_view path, std::string_view query);
  Result<Answer> list(std::string_view repository);
  Result<Answer> usage();
  Result<Answer> clean_up(std::string_view untagged, std::string_view grace);
  Result<Answer> remove(std::string_view item);
  Service& service_;
};

/// Where the server of `root` listens for administrators.
std::string admin_socket(const std::string& root);

}  // namespace caisson::registry
