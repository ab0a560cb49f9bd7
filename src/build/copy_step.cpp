// COPY and ADD, and the folder of a WORKDIR: layers made by the builder itself.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "build/fetch.hpp"
#include "build/stage.hpp"
#include "build/tree.hpp"
#include "engine/user_lookup.hpp"
#include "image/root_path.hpp"
#include "linux/file.hpp"

namespace caisson::build {

using dockerfile::Instruction;
using dockerfile::Keyword;

struct StageBuilder::CopyPlan {
  struct Source {
    int root_fd = -1;         ///< of `tree`, of the context, or of a folder with what was fetched or written
    std::string path;         ///< in it
    std::string name;         ///< in the destination
    std::string kept_parents; ///< --parents: the folders between
    bool keeps_name = false;  ///< --parents: a folder is copied as itself
    bool may_unpack = false;
    bool is_context = false;  ///< of the context or a named folder: files that the engine's own worker has put there
  };
  bool is_add = false;
  bool is_link = false;
  bool is_folder_wanted = false;  ///< the destination ends with '/', or there are several sources
  std::string destination;        ///< absolute
  std::string owner;              ///< --chown; "": default_owner
  bool keeps_owner = false;       ///< from a stage: the files' own
  std::string mode;
  dockerfile::IgnoreList exclude;
  std::vector<Source> sources;
  std::vector<std::string> digests;
  OpenedTree tree;
  std::vector<UniqueFd> folders;  ///< of what was fetched or written
};

namespace {

std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path.substr(path.find_last_of('/') + 1));
}


engine::AccountFiles accounts_in(int root_fd) {
  engine::AccountFiles files;
  auto read = [&](const char* path, std::string& out) {
    auto fd = linux::open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK);
    auto text = fd.ok() ? linux::read_all(fd->get()) : Result<std::string>(std::move(fd).error());
    if (text.ok()) out = std::move(*text);  // an image without accounts has numbers only
  };
  read("etc/passwd", files.passwd);
  read("etc/group", files.group);
  return files;
}

Result<std::pair<std::uint32_t, std::uint32_t>> resolve_owner(int root_fd, const std::string& text) {
  auto halves = split_once(text, ':');
  auto user = parse_integer<std::uint32_t>(halves.before);
  auto group = halves.found ? parse_integer<std::uint32_t>(halves.after) : user;
  if (user.ok() && group.ok()) return std::pair(*user, *group);
  auto files = accounts_in(root_fd);
  auto resolved = TRY(engine::resolve_user(text, {}, files), concat("--chown=", text));
  return std::pair(resolved.uid, resolved.gid);
}

Error missing_source(const std::string& keyword, const std::string& path) {
  return {ErrorKind::not_found, concat(keyword, " failed: file not found in build context or excluded by .dockerignore: stat ", path, ": file does not exist")};
}

}  // namespace

Result<StageBuilder::NamedSource> StageBuilder::find_source(const std::string& name) {
  NamedSource source;
  const auto* named = build_.contexts.find(name);
  if (named != nullptr && named->folder) {
    source.folder_fd = named->folder.get();
    return source;
  }
  auto number = named != nullptr ? std::nullopt : find_stage(build_.file, name, place_.number);
  if (number) {
    std::lock_guard lock(build_.mutex);
    source.state = build_.finished.at(*number);
    return source;
  }
  auto image = TRY(find_image(named != nullptr ? named->image : name, ""), concat("--from=", name));
  source.state.base_image = source.state.image = image.id.text();
  source.state.key = KeyHasher("image").add(source.state.base_image).finish();
  return source;
}

Result<int> StageBuilder::open_source(const NamedSource& source, OpenedTree& tree) {
  if (source.folder_fd >= 0) return source.folder_fd;
  tree = TRY_PLAIN(hold_tree(build_, TRY_PLAIN(lower_folders(build_, source.state)), false));
  return tree.root.get();
}

Result<StageBuilder::CopyPlan> StageBuilder::plan_copy(const Instruction& instruction) {
  CopyPlan plan;
  const std::string keyword(to_string(instruction.keyword));
  plan.is_add = instruction.keyword == Keyword::add;
  plan.is_link = instruction.is_set("link");
  plan.owner = TRY_PLAIN(scope_.expand(instruction.flag_value("chown")));
  plan.mode = TRY_PLAIN(scope_.expand(instruction.flag_value("chmod")));
  if (!plan.mode.empty()) TRY_PLAIN(change_mode(plan.mode, 0, false));
  std::vector<std::string> excluded;
  for (const auto& flag : instruction.flags)
    if (flag.name == "exclude") excluded.push_back(flag.value);
  plan.exclude = TRY(dockerfile::IgnoreList::of_patterns(excluded), "--exclude");

  std::vector<std::string> words;
  for (const auto& word : instruction.words) words.push_back(TRY_PLAIN(scope_.expand(word)));
  auto destination = words.back();
  words.pop_back();
  if (destination.empty()) return Error(ErrorKind::invalid, concat(keyword, ": the destination is empty"));
  bool ends_with_slash = destination.ends_with('/') || destination == "." || destination.ends_with("/.");
  plan.destination = dockerfile::clean_path(destination.starts_with('/') ? destination : concat("/", state_.config.config.working_dir, "/", destination));
  plan.is_folder_wanted = ends_with_slash || words.size() > 1;
  if (words.size() > 1 && !ends_with_slash)
    return Error(ErrorKind::invalid, concat("When using ", keyword, " with more than one source file, the destination must be a directory and end with a /"));

  int root_fd = build_.context.get();
  if (const auto* from = instruction.flag("from")) {
    auto source = TRY_PLAIN(find_source(from->value));
    root_fd = TRY_PLAIN(open_source(source, plan.tree));
    plan.keeps_owner = plan.owner.empty() && source.folder_fd < 0;
  }
  std::size_t heredoc = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& word = words[i];
    CopyPlan::Source source;
    if (heredoc < instruction.heredocs.size() && dockerfile::heredoc_of_word(instruction.words[i], build_.file.directives.escape)) {
      const auto& document = instruction.heredocs[heredoc++];
      auto content = document.expand ? TRY_PLAIN(scope_.expand_body(document.content)) : document.content;
      auto folder = TRY_PLAIN(build_.folder.make("heredoc"));
      auto fd = TRY_PLAIN(linux::open(folder, O_RDONLY | O_DIRECTORY));
      source.name = base_name(document.name);
      auto file = TRY_PLAIN(linux::openat(fd.get(), source.name, O_WRONLY | O_CREAT | O_EXCL, 0644));
      TRY_PLAIN(linux::write_all(file.get(), content));
      linux::TimeSpec epoch{};
      TRY_PLAIN(linux::utimensat(file.get(), "", epoch, epoch, AT_EMPTY_PATH));
      source.root_fd = fd.get();
      source.path = source.name;
      plan.folders.push_back(std::move(fd));
      plan.sources.push_back(std::move(source));
    } else if (plan.is_add && dockerfile::is_git_url(word)) {
      auto repository = TRY_PLAIN(dockerfile::parse_git_url(word));
      repository.keeps_git_dir |= instruction.is_set("keep-git-dir");
      if (const auto* checksum = instruction.flag("checksum")) TRY(repository.expect_commit(TRY_PLAIN(scope_.expand(checksum->value))), "--checksum");
      auto folder = TRY_PLAIN(build_.folder.make("repository"));
      auto fd = TRY_PLAIN(linux::open(folder, O_RDONLY | O_DIRECTORY));
      build_.materials.add(git_material(word, TRY(fetch_git(repository, git_options(build_.options, repository, build_.request, build_.agents), fd.get(), build_.cancel), "ADD")));
      source.root_fd = fd.get();
      source.path = ".";
      plan.folders.push_back(std::move(fd));
      plan.sources.push_back(std::move(source));
    } else if (plan.is_add && is_url(word)) {
      auto path = std::string_view(word).substr(word.find("://") + 3);
      path = path.substr(0, path.find_first_of("?#"));
      source.name = path.find('/') == std::string_view::npos ? "" : base_name(path);
      if (plan.is_folder_wanted && source.name.empty()) return Error(ErrorKind::invalid, concat("cannot determine filename for source ", word));
      if (source.name.empty()) source.name = "file";
      auto folder = TRY_PLAIN(build_.folder.make("fetched"));
      auto fd = TRY_PLAIN(linux::open(folder, O_RDONLY | O_DIRECTORY));
      auto file = TRY_PLAIN(linux::openat(fd.get(), source.name, O_RDWR | O_CREAT | O_EXCL, 0600));
      build_.materials.add(url_material(word, TRY(fetch_url(word, file.get(), build_.cancel), "ADD")));
      TRY_PLAIN(linux::fchmod(file.get(), 0600));
      linux::TimeSpec epoch{};
      TRY_PLAIN(linux::utimensat(file.get(), "", epoch, epoch, AT_EMPTY_PATH));
      source.root_fd = fd.get();
      source.path = source.name;
      source.may_unpack = instruction.is_set("unpack");
      plan.folders.push_back(std::move(fd));
      plan.sources.push_back(std::move(source));
    } else {
      if (root_fd < 0) return Error(ErrorKind::invalid, concat(keyword, " failed: this build has no context"));
      auto found = find_sources(root_fd, word);
      if (!found.ok() && found.error().kind() == ErrorKind::not_found) return missing_source(keyword, dockerfile::clean_path(concat("/", word)).substr(1));
      if (!found.ok()) return std::move(found).error();
      bool parents = instruction.is_set("parents");
      for (const auto& path : *found) {
        source.root_fd = root_fd;
        source.path = path;
        source.name = base_name(path);
        source.may_unpack = plan.is_add && (instruction.flag("unpack") == nullptr || instruction.is_set("unpack"));
        source.keeps_name = parents;
        source.is_context = !plan.tree.root;
        if (parents) {
          auto pivot = word.find("/./");
          auto kept = pivot == std::string::npos ? path : path.substr(std::min(path.size(), dockerfile::clean_path(concat("/", word.substr(0, pivot))).size()));
          source.kept_parents = kept.find('/') == std::string::npos ? "" : std::string(split_last(kept, '/').before);
        }
        plan.sources.push_back(source);
      }
      if (found->size() > 1 && !ends_with_slash)
        return Error(ErrorKind::invalid, concat("When using ", keyword, " with more than one source file, the destination must be a directory and end with a /"));
    }
  }
  if (plan.sources.empty()) return Error(ErrorKind::not_found, concat(keyword, " failed: no source files were specified"));
  TreeHasher hasher(plan.exclude.empty() ? nullptr : &plan.exclude, plan.keeps_owner, TRY_PLAIN(tree_limits(build_)));
  for (const auto& source : plan.sources) plan.digests.push_back(TRY_PLAIN(hasher.digest(source.root_fd, source.path)));
  const bool is_file_checksum = std::none_of(words.begin(), words.end(), dockerfile::is_git_url);
  if (const auto* checksum = instruction.flag("checksum"); checksum != nullptr && is_file_checksum) {
    auto wanted = TRY(Digest::parse(TRY_PLAIN(scope_.expand(checksum->value))), "--checksum");
    if (plan.sources.size() != 1) return Error(ErrorKind::invalid, "--checksum takes one source only");
    const auto file = TRY_PLAIN(linux::open_in_root(plan.sources[0].root_fd, plan.sources[0].path, O_RDONLY));
    const auto found = TRY_PLAIN(digest_of_file(file.get()));
    if (found != wanted) return Error(ErrorKind::invalid, concat("digest mismatch ", found.text(), ": ", wanted.text()));
  }
  return plan;
}

Status StageBuilder::dispatch_copy(const Instruction& instruction) {
  auto plan = TRY_PLAIN(plan_copy(instruction));
  const std::string keyword(to_string(instruction.keyword));
  KeyHasher key(keyword);
  // A --link layer knows nothing of what lies below it.
  key.add(plan.is_link ? "" : state_.key).add(plan.destination).add(plan.is_folder_wanted ? "/" : "").add(plan.owner).add(plan.mode).add(plan.keeps_owner ? "keep" : "").add(plan.exclude.texts());
  for (std::size_t i = 0; i < plan.sources.size(); ++i) {
    const auto& source = plan.sources[i];
    key.add(source.name).add(source.kept_parents).add(source.may_unpack ? "unpack" : "").add(plan.digests[i]);
  }
  if (build_.source_date_epoch_s) key.add(concat(*build_.source_date_epoch_s));
  auto layer_key = key.finish();
  auto step_key = plan.is_link ? KeyHasher("link").add(state_.key).add(layer_key).finish() : layer_key;
  TRY_PLAIN(cached_step(step_key, instruction.statement, [&] { return make_copy(plan); }));
  std::string what = plan.digests.size() > 1 ? concat("multi:", sha256_of(join(plan.digests, " ")).hex()) : std::string();
  if (what.empty()) {
    auto fd = TRY_PLAIN(linux::open_in_root(plan.sources[0].root_fd, plan.sources[0].path, O_PATH));
    what = concat(S_ISDIR(TRY_PLAIN(linux::fstat(fd.get())).st_mode) ? "dir:" : "file:", split_once(plan.digests[0], ':').after);
  }
  auto chown = plan.owner.empty() ? std::string() : concat("--chown=", plan.owner, " ");
  auto shown = plan.destination == "/" || !plan.is_folder_wanted ? plan.destination : plan.destination + "/";
  add_history(metadata_text(concat(keyword, " ", chown, what, " in ", shown, " "), " "), state_.layers.back().is_empty);
  return {};
}

namespace {

/// Takes an archive apart into a fresh folder; false when it is none after all.
Result<bool> unpack_archive(SharedBuild& build, int file_fd, UniqueFd& out) {
  auto folder = TRY_PLAIN(build.folder.make("archive"));
  out = TRY_PLAIN(linux::open(folder, O_RDONLY | O_DIRECTORY));
  image::WorkerJob job;
  job.request.task = image::WorkerTask::unpack;
  job.input_fd = file_fd;
  job.target_fd = out.get();
  job.cancel = build.cancel;
  auto result = image::run_worker(build.options.worker, job);
  if (!result.ok() && result.error().kind() == ErrorKind::invalid) return false;
  if (!result.ok()) return std::move(result).error().in("unpack");
  return true;
}

}  // namespace

Result<image::MadeLayer> StageBuilder::make_copy(const CopyPlan& plan) {
  std::vector<std::string> lowers;
  if (plan.is_link) lowers.push_back(TRY_PLAIN(build_.folder.make("empty")));
  else lowers = TRY_PLAIN(lower_folders(build_, state_));
  auto target = TRY_PLAIN(hold_tree(build_, lowers, true));
  CopyOptions options;
  options.mode = plan.mode;
  options.cancel = build_.cancel;
  options.exclude = plan.exclude.empty() ? nullptr : &plan.exclude;
  std::pair<std::uint32_t, std::uint32_t> owner{0, 0};
  if (!plan.owner.empty()) owner = TRY_PLAIN(resolve_owner(target.root.get(), plan.owner));
  if (!plan.keeps_owner) options.owner = owner;
  TreeCopier copier(options);
  // A folder of the context is read where it lies: thousands of files that are made in the upper folder and removed again cost far more than their bytes.
  const bool may_graft = plan.sources.size() == 1 && plan.sources[0].is_context && plan.mode.empty() && plan.exclude.empty();
  image::LayerTrees layer;
  layer.graft_uid = owner.first;
  layer.graft_gid = owner.second;
  for (const auto& source : plan.sources) {
    auto step = concat(plan.is_add ? "ADD " : "COPY ", source.path);
    auto from = TRY(linux::open_in_root(source.root_fd, source.path, O_PATH), step);
    auto status = TRY(linux::fstat(from.get()), step);
    auto destination = source.kept_parents.empty() ? plan.destination : concat(plan.destination, "/", source.kept_parents);
    if (S_ISDIR(status.st_mode)) {
      if (source.keeps_name) destination = concat(destination, "/", source.name);
      auto folder = TRY(linux::openat(from.get(), ".", O_RDONLY | O_DIRECTORY), step);
      auto to = TRY(make_folders(target.root.get(), destination, owner), step);
      if (!may_graft) {
        TRY(copier.copy_children(folder.get(), to.get()), step);
        continue;
      }
      CopyOptions grafting = options;
      grafting.grafts = &layer.grafts;
      grafting.graft_folder = TRY(image::resolve_in_root(target.root.get(), destination), step).substr(1);
      grafting.graft_source = source.path;
      layer.graft_fd = source.root_fd;
      TRY(TreeCopier(grafting).copy_children(folder.get(), to.get()), step);
      continue;
    }
    if (source.may_unpack && S_ISREG(status.st_mode)) {
      auto file = TRY(linux::reopen(from.get(), O_RDONLY), step);
      std::array<char, 512> head{};
      auto got = TRY(linux::pread(file.get(), head, 0), step);
      UniqueFd unpacked;
      if (looks_like_archive({head.data(), got}) && TRY(unpack_archive(build_, file.get(), unpacked), step)) {
        CopyOptions as_archived = options;
        if (plan.owner.empty()) as_archived.owner.reset();
        auto to = TRY(make_folders(target.root.get(), destination, owner), step);
        TRY(TreeCopier(as_archived).copy_children(unpacked.get(), to.get()), step);
        continue;
      }
    }
    auto as_folder = linux::open_in_root(target.root.get(), destination, O_PATH | O_DIRECTORY);
    bool goes_inside = plan.is_folder_wanted || source.keeps_name || as_folder.ok();
    auto parent = goes_inside ? destination : std::string(split_last(destination, '/').before);
    auto name = goes_inside ? source.name : std::string(split_last(destination, '/').after);
    auto to = TRY(make_folders(target.root.get(), parent, owner), step);
    TRY(copier.copy_file(from.get(), to.get(), name), step);
  }
  auto upper = target.upper;
  target = OpenedTree{};  // nobody has the upper folder mounted while it is read
  return layer_of(build_, upper, std::move(layer));
}

Status StageBuilder::begin_from_folder(int folder_fd, const std::string& name) {
  CopyPlan plan;
  plan.destination = "/";
  plan.is_folder_wanted = true;
  plan.is_link = true;
  CopyPlan::Source source;
  source.root_fd = folder_fd;
  source.path = ".";
  source.is_context = true;
  plan.sources.push_back(std::move(source));
  KeyHasher key("FROM");
  key.add(state_.key).add(TRY_PLAIN(TreeHasher(nullptr, false, TRY_PLAIN(tree_limits(build_))).digest(folder_fd, ".")));
  if (build_.source_date_epoch_s) key.add(concat(*build_.source_date_epoch_s));
  TRY_PLAIN(cached_step(key.finish(), concat("FROM ", name), [&] { return make_copy(plan); }));
  add_history(concat("FROM ", name), state_.layers.back().is_empty);
  return {};
}

Status StageBuilder::dispatch_workdir_folder() {
  const auto& path = state_.config.config.working_dir;
  if (path == "/") return {};
  const auto& user = state_.config.config.user;
  auto key = KeyHasher("WORKDIR").add(state_.key).add(path).add(user).finish();
  return cached_step(key, concat("WORKDIR ", path), [&]() -> Result<image::MadeLayer> {
    auto target = TRY_PLAIN(hold_tree(build_, TRY_PLAIN(lower_folders(build_, state_)), true));
    std::pair<std::uint32_t, std::uint32_t> owner{0, 0};
    if (!user.empty()) {
      auto files = accounts_in(target.root.get());
      auto resolved = TRY(engine::resolve_user(user, {}, files), "WORKDIR");
      owner = {resolved.uid, resolved.gid};
    }
    { auto made = TRY(make_folders(target.root.get(), path, owner), "WORKDIR"); }  // nothing may hold the tree when its layer is read
    auto upper = target.upper;
    target = OpenedTree{};
    return layer_of(build_, upper);
  });
}

}  // namespace caisson::build
