// Used by cp and by builds whose result is a folder.
#include "cli/place_here.hpp"

#include "image/place.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::cli {

namespace {

/// Reads an answer's body piece by piece, for the tar reader.
class AnswerSource final : public image::ByteSource {
 public:
  explicit AnswerSource(wire::Client& client) : client_(client) {}
  Result<std::string_view> next() override {
    piece_ = TRY(client_.read_some(), "read the archive");
    return std::string_view(piece_);
  }

 private:
  wire::Client& client_;
  std::string piece_;
};

}  // namespace

Status place_here(wire::Client& client, const std::string& folder, const std::string& first_name) {
  auto root = TRY_PLAIN(linux::open(folder, O_RDONLY | O_DIRECTORY));
  image::PlaceRequest request;
  request.path = "/";
  request.keep_kinds = true;
  request.owner = image::FileOwner{linux::geteuid(), linux::getegid()};
  request.first_name = first_name;
  request.without_attributes = true;
  AnswerSource source(client);
  image::TarReader tar(source);
  return image::place_archive(tar, root.get(), request);
}

}  // namespace caisson::cli
