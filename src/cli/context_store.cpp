// Reading and writing docker's folder of contexts, and its archives.
#include "cli/context_store.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "image/inflate.hpp"
#include "image/tar_reader.hpp"
#include "image/tar_writer.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t most_archive_bytes = 10U << 20U;  // docker's own bound for an import
constexpr std::size_t most_key_bytes = 1U << 20U;

std::string id_of(const std::string& name) { return std::string(sha256_of(name).hex()); }

bool is_plain_name(std::string_view name) { return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos; }

// A folder that is not there holds nothing.
Result<std::vector<std::string>> entries_of(const std::string& folder) {
  std::vector<std::string> out;
  auto listed = linux::list_dir(folder);
  if (!listed.ok() && listed.error().kind() == ErrorKind::not_found) return out;
  if (!listed.ok()) return std::move(listed).error().in(folder);
  for (auto& entry : *listed) out.push_back(std::move(entry.name));
  std::sort(out.begin(), out.end());
  return out;
}

// "tls/ENDPOINT/FILE" to "ENDPOINT/FILE"; "" for folders on the way there. Errors: invalid for every other name.
Result<std::string> key_name(std::string_view entry) {
  while (entry.ends_with('/')) entry.remove_suffix(1);
  auto parts = split(entry, '/');
  bool fits = parts.size() <= 3 && parts[0] == "tls" && std::all_of(parts.begin(), parts.end(), is_plain_name);
  if (!fits) return Error(ErrorKind::invalid, concat("invalid context: unexpected file ", entry));
  return parts.size() == 3 ? concat(parts[1], "/", parts[2]) : std::string();
}

// Plain, or gzip as docker's own reader takes it too.
Result<std::string> inflated(std::string_view archive) {
  image::MemorySource source(archive);
  auto inflater = TRY_PLAIN(image::open_inflater(source));
  std::string out;
  for (;;) {
    auto piece = TRY_PLAIN(inflater->next());
    if (piece.empty()) return out;
    out += piece;
    if (out.size() > most_archive_bytes) return Error(ErrorKind::invalid, concat("the context's files are larger than ", most_archive_bytes, " bytes"));
  }
}

Result<std::string> contents_of(image::TarReader& reader, const image::TarEntry& entry) {
  if (entry.size_bytes > most_key_bytes) return Error(ErrorKind::invalid, concat("invalid context: ", entry.name, " is larger than ", most_key_bytes, " bytes"));
  std::string bytes;
  for (;;) {
    auto piece = TRY_PLAIN(reader.read());
    if (piece.bytes.empty()) return bytes;
    bytes += piece.bytes;
  }
}

image::TarEntry tar_entry(std::string name, image::TarType type, std::uint32_t mode, std::size_t size) {
  image::TarEntry entry;
  entry.name = std::move(name);
  entry.type = type;
  entry.mode = mode;
  entry.size_bytes = size;
  return entry;
}

}  // namespace

Status check_context_name(const std::string& name) {
  if (name.empty()) return Error(ErrorKind::invalid, "context name cannot be empty");
  if (name == "default") return Error(ErrorKind::invalid, "\"default\" is a reserved context name");
  auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  bool fits = name.size() >= 2 && is_plain(name[0]);
  for (char c : name) fits = fits && (is_plain(c) || std::string_view("_.+-").find(c) != std::string_view::npos);
  if (!fits) return Error(ErrorKind::invalid, concat("context name \"", name, R"(" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$")"));
  return {};
}

Result<StoredContext> parse_context(const json::value& document) {
  if (!document.is_object()) return Error(ErrorKind::invalid, "meta.json: want a JSON object");
  StoredContext context;
  JsonView view(document, "meta.json");
  TRY_PLAIN(view.read("Name", context.name));
  JsonView metadata = TRY_PLAIN(view.at("Metadata"));
  TRY_PLAIN(metadata.read("Description", context.description));
  JsonView endpoints = TRY_PLAIN(view.at("Endpoints"));
  JsonView docker = TRY_PLAIN(endpoints.at("docker"));
  TRY_PLAIN(docker.read("Host", context.host));
  TRY_PLAIN(docker.read("SkipTLSVerify", context.skips_verify));
  context.document = document.get_object();
  return context;
}

ContextStore::ContextStore(std::string_view folder) : folder_(concat(folder, "/contexts")) {}

std::string ContextStore::meta_folder(const std::string& name) const { return concat(folder_, "/meta/", id_of(name)); }

std::string ContextStore::tls_folder(const std::string& name) const { return concat(folder_, "/tls/", id_of(name)); }

Result<StoredContext> ContextStore::find(const std::string& name) const {
  const std::string path = meta_folder(name) + "/meta.json";
  auto text = linux::read_file(path, most_key_bytes);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::not_found, concat("context \"", name, "\": context not found: open ", path, ": no such file or directory"));
  const std::string what = concat("context \"", name, "\"");
  if (!text.ok()) return std::move(text).error().in(what);
  auto document = TRY(parse_json(*text, "meta.json"), what);
  return TRY(parse_context(document), what);
}

Result<std::vector<std::string>> ContextStore::names() const {
  std::vector<std::string> out;
  for (const auto& id : TRY_PLAIN(entries_of(folder_ + "/meta"))) {
    auto text = linux::read_file(concat(folder_, "/meta/", id, "/meta.json"), most_key_bytes);
    auto document = text.ok() ? parse_json(*text, "meta.json") : Result<json::value>(text.error());
    auto context = document.ok() ? parse_context(*document) : Result<StoredContext>(document.error());
    if (context.ok() && id_of(context->name) == id) out.push_back(context->name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::vector<std::string>> ContextStore::key_files(const std::string& name) const {
  std::vector<std::string> out;
  const std::string folder = tls_folder(name);
  for (const auto& endpoint : TRY_PLAIN(entries_of(folder)))
    for (const auto& file : TRY_PLAIN(entries_of(concat(folder, "/", endpoint)))) out.push_back(concat(endpoint, "/", file));
  return out;
}

Result<KeyMaterial> ContextStore::keys(const std::string& name) const {
  KeyMaterial out;
  for (const auto& file : TRY_PLAIN(key_files(name))) out[file] = TRY(linux::read_file(concat(tls_folder(name), "/", file), most_key_bytes), concat("read ", file));
  return out;
}

Status ContextStore::save(const std::string& name, const json::object& document, const KeyMaterial& keys) const {
  const std::string tls = tls_folder(name);
  TRY(linux::remove_tree(tls), concat("remove ", tls));
  for (const auto& [file, bytes] : keys) {
    const std::string path = concat(tls, "/", file);
    TRY(linux::make_dirs(std::string(split_last(path, '/').before), 0700), concat("make the folder of ", path));
    TRY(linux::write_file_atomic(path, bytes, 0600, linux::Durability::none), concat("write ", path));
  }
  const std::string meta = meta_folder(name);
  TRY(linux::make_dirs(meta, 0755), concat("make ", meta));
  // Last: a context is there once its meta.json is.
  TRY(linux::write_file_atomic(meta + "/meta.json", to_text(document), 0644, linux::Durability::none), concat("write ", meta, "/meta.json"));
  return {};
}

Status ContextStore::remove(const std::string& name) const {
  TRY(linux::remove_tree(meta_folder(name)), concat("remove context \"", name, "\""));
  TRY(linux::remove_tree(tls_folder(name)), concat("remove the keys of context \"", name, "\""));
  return {};
}

Result<std::string> pack_context_archive(const json::object& document, const KeyMaterial& keys) {
  std::string out;
  image::TarWriter tar([&out](std::string_view bytes) -> Status {
    out += bytes;
    return {};
  });
  const std::string meta = to_text(document);
  TRY_PLAIN(tar.add(tar_entry("meta.json", image::TarType::file, 0644, meta.size()), meta));
  TRY_PLAIN(tar.add(tar_entry("tls", image::TarType::directory, 0700, 0), ""));
  std::string last;
  for (const auto& [file, bytes] : keys) {
    std::string endpoint(split_once(file, '/').before);
    if (endpoint != last) TRY_PLAIN(tar.add(tar_entry("tls/" + endpoint, image::TarType::directory, 0700, 0), ""));
    last = endpoint;
    TRY_PLAIN(tar.add(tar_entry("tls/" + file, image::TarType::file, 0600, bytes.size()), bytes));
  }
  TRY_PLAIN(tar.finish());
  return out;
}

Result<UnpackedContext> unpack_context_archive(std::string_view archive) {
  if (archive.size() > most_archive_bytes) return Error(ErrorKind::invalid, concat("the context's archive is larger than ", most_archive_bytes, " bytes"));
  if (archive.starts_with("PK\x03\x04")) return Error(ErrorKind::unsupported, "the context's archive is a zip; only tar is supported").with_hint("'docker context export' writes tar");
  // Docker's export ends with the last file's bytes: neither their block is filled up nor the end marked (28.2; its own reader does not mind).
  std::string tar = TRY_PLAIN(inflated(archive));
  const std::size_t given = tar.size();
  tar.resize((given / image::tar_block_bytes + 3) * image::tar_block_bytes);
  image::MemorySource source(tar);
  image::TarLimits limits;
  limits.entries = 100;
  image::TarReader reader(source, limits);
  UnpackedContext out;
  bool has_meta = false;
  image::TarEntry entry;
  while (TRY_PLAIN(reader.next(entry))) {
    if (reader.position() > given || entry.size_bytes > given - reader.position()) return Error(ErrorKind::invalid, concat("invalid context: ", entry.name, ": unexpected end of data"));
    if (entry.type == image::TarType::directory) {
      TRY_PLAIN(key_name(entry.name));
      continue;
    }
    if (entry.type != image::TarType::file) return Error(ErrorKind::invalid, concat("invalid context: ", entry.name, " is neither file nor folder"));
    std::string bytes = TRY_PLAIN(contents_of(reader, entry));
    if (entry.name == "meta.json") {
      auto document = TRY_PLAIN(parse_json(bytes, "meta.json"));
      TRY_PLAIN(parse_context(document));
      out.document = document.get_object();
      has_meta = true;
      continue;
    }
    std::string name = TRY_PLAIN(key_name(entry.name));
    if (name.empty()) return Error(ErrorKind::invalid, concat("invalid context: unexpected file ", entry.name));
    out.keys[name] = std::move(bytes);
  }
  if (!has_meta) return Error(ErrorKind::invalid, "invalid context: no metadata found");
  return out;
}

}  // namespace caisson::cli
