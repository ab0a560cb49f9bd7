// import-docker: takes images, networks, volumes and containers over from a stopped Docker's folder. The daemon learns of them by its ordinary API;
// only the files of volumes and of containers' own layers are copied here, by root, from one folder of root's to another.
#include <algorithm>
#include <functional>
#include <set>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/docker_folder.hpp"
#include "cli/listing.hpp"
#include "cli/progress.hpp"
#include "cli/request.hpp"
#include "engine/copy_up.hpp"
#include "image/transplant.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/socket.hpp"
#include "linux/tree.hpp"
#include "network/bridge.hpp"

namespace caisson::cli {

namespace {

// What was begun and what is done, so that a second run goes on where the first one ended. It lies in the daemon's folder.
class Journal {
 public:
  static Result<Journal> open(const std::string& root, const std::string& docker_root) {
    Journal journal;
    journal.path_ = concat(root, "/import-docker.journal");
    journal.source_ = docker_root;
    if (!TRY_PLAIN(linux::exists(journal.path_))) return journal;
    std::string text = TRY(linux::read_file(journal.path_), concat("read ", journal.path_));
    for (auto line : split(text, '\n')) journal.lines_.emplace(line);
    return journal;
  }
  [[nodiscard]] bool has(std::string_view state, std::string_view what) const { return lines_.contains(line(state, what)); }
  Status add(std::string_view state, std::string_view what) {
    std::string text = line(state, what);
    auto file = TRY(linux::open(path_, O_WRONLY | O_CREAT | O_APPEND, 0600), concat("open ", path_));
    TRY(linux::write_all(file.get(), text + "\n"), concat("write ", path_));
    TRY(linux::fsync(file.get()), concat("write ", path_));
    lines_.insert(std::move(text));
    return {};
  }

 private:
  [[nodiscard]] std::string line(std::string_view state, std::string_view what) const { return concat(state, " ", what, " from ", source_); }
  std::string path_;
  std::string source_;
  std::set<std::string> lines_;
};

enum class Step : std::uint8_t { take, there, conflict };

/// One thing of Docker's and what becomes of it.
struct Item {
  std::string kind;
  std::string name;
  Step step = Step::take;
  std::string note;
  std::size_t index = 0;  ///< in the folder's list
};

struct Plan {
  std::vector<Item> images;
  std::vector<Item> networks;
  std::vector<Item> volumes;
  std::vector<Item> containers;
  [[nodiscard]] std::vector<const Item*> all() const {
    std::vector<const Item*> items;
    for (const auto* list : {&images, &networks, &volumes, &containers})
      for (const auto& item : *list) items.push_back(&item);
    return items;
  }
};

Result<bool> is_known(Session& session, std::string_view target) {
  auto answer = session.call("GET", target);
  if (answer.ok()) return true;
  if (answer.error().kind() == ErrorKind::not_found) return false;
  return std::move(answer).error();
}

constexpr std::size_t short_id_digits = 12;

// By whole ids, and for networks by the short ones that users type: a container's own settings keep what was typed of a network.
std::map<std::string, std::string> names_of(const DockerFolder& folder) {
  std::map<std::string, std::string> names;
  for (const auto& container : folder.containers) names[container.id] = container.name;
  for (const auto& network : folder.networks) names[network.id] = names[network.id.substr(0, short_id_digits)] = network.name;
  return names;
}

std::string name_of(const DockerImage& image) { return image.tags.empty() ? short_id(image.id) : image.tags[0]; }

Result<std::vector<Item>> plan_images(Session& session, const DockerFolder& folder) {
  std::vector<Item> items;
  for (std::size_t i = 0; i < folder.images.size(); ++i) {
    const auto& image = folder.images[i];
    Item item{"image", name_of(image), Step::there, "", i};
    for (const auto& tag : image.tags.empty() ? std::vector<std::string>{image.id} : image.tags) {
      auto known = session.call("GET", object_path("images", tag, "json"));
      if (!known.ok() && known.error().kind() != ErrorKind::not_found) return std::move(known).error();
      std::string id;
      if (known.ok()) {
        auto document = TRY_PLAIN(parse_json(known->body, "the daemon's answer"));
        TRY_PLAIN(JsonView(document).read("Id", id));
      }
      if (id.empty() && item.step == Step::there) item.step = Step::take;
      if (!id.empty() && id != image.id) {
        item.step = Step::conflict;
        item.note = concat(tag, " is another image here");
      }
    }
    items.push_back(std::move(item));
  }
  return items;
}

Result<std::vector<Item>> plan_volumes(Session& session, const DockerFolder& folder, const Journal& journal) {
  std::vector<Item> items;
  for (std::size_t i = 0; i < folder.volumes.size(); ++i) {
    const auto& volume = folder.volumes[i];
    Item item{"volume", volume.name, Step::take, "", i};
    std::string what = concat("volume ", volume.name);
    bool is_taken = TRY_PLAIN(is_known(session, object_path("volumes", volume.name)));
    if (is_taken && journal.has("done", what)) item.step = Step::there;
    else if (is_taken && journal.has("begun", what)) item.note = "begun before: copied again";
    else if (is_taken) {
      item.step = Step::conflict;
      item.note = "a volume of that name is here";
    }
    items.push_back(std::move(item));
  }
  return items;
}

// A container that is here under a name; none: all empty.
struct Here {
  std::string id;
  std::string state;
};
Result<Here> find_here(Session& session, const std::string& name) {
  Here here;
  auto known = session.call("GET", object_path("containers", name, "json"));
  if (!known.ok() && known.error().kind() == ErrorKind::not_found) return here;
  if (!known.ok()) return std::move(known).error();
  auto document = TRY_PLAIN(parse_json(known->body, "the daemon's answer"));
  TRY_PLAIN(JsonView(document).read("Id", here.id));
  TRY_PLAIN(TRY_PLAIN(JsonView(document).at("State")).read("Status", here.state));
  return here;
}

std::string made_of(const DockerContainer& container, const std::string& id) { return concat("container ", container.id, " as ", id); }

// One that an earlier run has made and nobody has started gets its layer again. Another one of that name is somebody's own.
Result<Item> plan_container(Session& session, const DockerContainer& container, const Journal& journal) {
  Item item{"container", container.name, Step::take, "", 0};
  const std::string what = concat("container ", container.id);
  const Here here = TRY_PLAIN(find_here(session, container.name));
  const bool is_half_made = here.state == "created" && journal.has("made", made_of(container, here.id));
  if (!here.id.empty() && journal.has("done", what)) {
    item.step = Step::there;
  } else if (!here.id.empty() && !is_half_made) {
    item.step = Step::conflict;
    item.note = "a container of that name is here";
  } else if (container.is_running) {
    item.step = Step::conflict;
    item.note = "it runs on without its dockerd (live-restore); stop it first";
  } else if (container.leaves_changes) {
    item.note = "what it wrote outside of volumes stays behind; to keep it, docker commit it and import again";
  } else if (is_half_made) {
    item.note = "begun before: copied again";
  }
  return item;
}

Result<std::vector<Item>> plan_containers(Session& session, const DockerFolder& folder, const Journal& journal) {
  std::vector<Item> items;
  for (std::size_t i = 0; i < folder.containers.size(); ++i) {
    items.push_back(TRY_PLAIN(plan_container(session, folder.containers[i], journal)));
    items.back().index = i;
  }
  return items;
}

Result<std::set<std::string>> network_drivers(Session& session) {
  auto info = TRY_PLAIN(session.get("/info"));
  std::vector<std::string> drivers;
  TRY_PLAIN(TRY_PLAIN(JsonView(info).at("Plugins")).read("Network", drivers));
  return std::set<std::string>(drivers.begin(), drivers.end());
}

Result<Item> plan_network(Session& session, const DockerNetwork& network, const std::set<std::string>& drivers, linux::NetlinkSocket& netlink, const Journal& journal) {
  Item item{"network", network.name, Step::conflict, network.refusal, 0};
  if (!network.refusal.empty()) return item;
  if (TRY_PLAIN(is_known(session, object_path("networks", network.name)))) {
    item.step = Step::there;
    if (!journal.has("done", concat("network ", network.id))) item.note = "a network of that name is here and is used as it is";
  } else if (!drivers.contains(network.driver)) {
    item.note = concat("there is no driver \"", network.driver, "\" here");
  } else if (!network.bridge.empty() && TRY_PLAIN(network::interface_exists(netlink, network.bridge))) {
    // dockerd leaves its bridges to the next dockerd. With one of them the host would have two ways to the same addresses.
    item.note = concat("dockerd's bridge still has its addresses; remove it first: ip link delete ", network.bridge);
  } else {
    item.step = Step::take;
  }
  return item;
}

// Those of dockerd's database, and containers' networks that it does not know.
Result<std::vector<Item>> plan_networks(Session& session, const DockerFolder& folder, const Journal& journal) {
  std::set<std::string> names = {"bridge", "host", "none"};
  std::vector<Item> items;
  const auto drivers = TRY_PLAIN(network_drivers(session));
  auto netlink = TRY_PLAIN(linux::open_rtnetlink());
  for (std::size_t i = 0; i < folder.networks.size(); ++i) {
    items.push_back(TRY_PLAIN(plan_network(session, folder.networks[i], drivers, netlink, journal)));
    items.back().index = i;
    names.insert(folder.networks[i].name);
  }
  for (const auto& container : folder.containers) {
    JsonView networks(container.networks, "Networks");
    TRY_PLAIN(networks.for_each_member([&](std::string_view name, const JsonView&) -> Status {
      if (!names.emplace(name).second) return {};
      bool is_there = TRY_PLAIN(is_known(session, object_path("networks", name)));
      items.push_back({"network", std::string(name), is_there ? Step::there : Step::take, is_there ? "" : "dockerd's database does not have it: as a bridge with free addresses", folder.networks.size()});
      return {};
    }));
  }
  return items;
}

std::string_view word_of(Step step) { return step == Step::take ? "take over" : step == Step::there ? "already here" : "left alone"; }

void print_plan(Output& out, const DockerFolder& folder, const Plan& plan) {
  out.line(concat(folder.root, " (", folder.driver, "):"));
  std::vector<std::vector<std::string>> rows;
  for (const auto* item : plan.all()) rows.push_back({item->kind, item->name, std::string(word_of(item->step)), item->note});
  out.write(align(rows));
}

// --- doing it --------------------------------------------------------------------------------------------------------

class Import {
 public:
  Import(Session& session, const DockerFolder& folder, Journal& journal) : session_(session), folder_(folder), journal_(journal) {
    names_ = names_of(folder_);
  }

  Status image(const Item& item) {
    const auto& image = folder_.images[item.index];
    auto client = TRY_PLAIN(session_.connect());
    auto write = [&](int fd) { return write_docker_image(folder_, image, [fd](std::string_view bytes) { return linux::send_all(fd, bytes); }); };
    auto [answered, written] = TRY_PLAIN(session_.upload_written(*client, "/images/load?quiet=1", write));
    const bool is_hung_up = !written.ok() && (written.error().error_number() == EPIPE || written.error().error_number() == ECONNRESET);
    if (!written.ok() && (answered.ok() || !is_hung_up)) return std::move(written);  // else the daemon says why it did not want more
    TRY_PLAIN(std::move(answered));
    TRY_PLAIN(follow_progress(session_, *client, {.is_quiet = true, .prints_results = false}));
    return {};
  }

  Status network(const Item& item) {
    const bool is_recorded = item.index < folder_.networks.size();
    json::value body = is_recorded ? folder_.networks[item.index].request : json::object{{"Name", item.name}, {"Driver", "bridge"}, {"CheckDuplicate", true}};
    TRY_PLAIN(session_.post("/networks/create", &body));
    return is_recorded ? journal_.add("done", concat("network ", folder_.networks[item.index].id)) : Status();
  }

  Status volume(const Item& item) {
    const auto& volume = folder_.volumes[item.index];
    std::string what = concat("volume ", volume.name);
    TRY_PLAIN(journal_.add("begun", what));
    json::object options;
    for (const auto& [key, value] : volume.options) options[key] = value;
    json::value body = json::object{{"Name", volume.name}, {"Driver", "local"}, {"DriverOpts", options}, {"Labels", json::value_from(volume.labels)}};
    auto made = TRY_PLAIN(session_.post("/volumes/create", &body));
    std::string target;
    TRY_PLAIN(JsonView(made).read("Mountpoint", target));
    if (volume.options.empty()) TRY(copy_volume(volume.data, target), concat("copy ", volume.data, " to ", target));
    return journal_.add("done", what);
  }

  Status container(const Item& item) {
    const auto& container = folder_.containers[item.index];
    std::string what = concat("container ", container.id);
    if (TRY_PLAIN(find_here(session_, container.name)).id.empty()) TRY_PLAIN(create(container));
    Status copied = container.layer.empty() ? Status() : copy_layer(container);
    if (copied.ok()) return journal_.add("done", what);
    // Better none than one without its files. When even that fails, the journal knows that it is not done.
    ignore(session_.call("DELETE", object_path("containers", container.name)));
    return std::move(copied).error().in("what it wrote outside of volumes");
  }

 private:
  static Status copy_volume(const std::string& from, const std::string& to) {
    auto target = TRY_PLAIN(linux::open(to, O_RDONLY | O_DIRECTORY));
    TRY_PLAIN(linux::remove_children(target.get()));  // of a copy that was not finished
    std::vector<std::string> layers = {from};
    TRY_PLAIN(engine::copy_from_layers(layers, "/", target.get()));
    return linux::syncfs(target.get());
  }

  Status create(const DockerContainer& container) {
    json::value request(TRY_PLAIN(create_body_of(container, names_, TRY_PLAIN(image_name(container)))));
    Query query;
    query.add("name", container.name);
    auto made = TRY_PLAIN(session_.post("/containers/create" + query.text(), &request));
    std::string id;
    TRY_PLAIN(JsonView(made).read("Id", id));
    return journal_.add("made", made_of(container, id));
  }

  // Into the empty layer of a container that has never run.
  Status copy_layer(const DockerContainer& container) {
    auto made = TRY_PLAIN(session_.get(object_path("containers", container.name, "json")));
    std::string path;
    TRY_PLAIN(TRY_PLAIN(TRY_PLAIN(JsonView(made).at("GraphDriver")).at("Data")).read("UpperDir", path));
    auto from = TRY_PLAIN(linux::open(container.layer, O_RDONLY | O_DIRECTORY));
    auto to = TRY_PLAIN(linux::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY_PLAIN(linux::remove_children(to.get()));  // of a copy that was not finished
    return image::copy_upperdir(from.get(), to.get());
  }

  // The name that the user gave, where it still means that image; else the id.
  Result<std::string> image_name(const DockerContainer& container) {
    std::string asked;
    json::value config(container.config);
    TRY_PLAIN(JsonView(config).read("Image", asked));
    for (const auto& image : folder_.images) {
      if (image.id != container.image_id) continue;
      for (const auto& tag : image.tags)
        if (tag == asked || tag == concat(asked, ":latest")) return asked;
    }
    return container.image_id;
  }

  Session& session_;
  const DockerFolder& folder_;
  Journal& journal_;
  std::map<std::string, std::string> names_;
};

// Each after its partners; docker allows no circles, and one in a damaged folder is left in the order it has.
void order_containers(const DockerFolder& folder, std::vector<Item>& items) {
  const auto names = names_of(folder);
  std::map<std::string, const Item*> waiting;
  for (const auto& item : items) waiting[item.name] = &item;
  std::vector<Item> ordered;
  std::function<void(const Item&)> place = [&](const Item& item) {
    if (waiting.erase(item.name) == 0) return;  // placed already, or on its way
    for (const auto& partner : partners_of(folder.containers[item.index], names))
      if (auto found = waiting.find(partner); found != waiting.end()) place(*found->second);
    ordered.push_back(item);
  };
  for (const auto& item : items) place(item);
  items = std::move(ordered);
}

// Every item by itself: one that fails leaves the others their chance. Returns how many are not here afterwards.
std::size_t carry_out(Session& session, const std::vector<Item>& items, const std::function<Status(const Item&)>& take) {
  std::size_t failures = 0;
  for (const auto& item : items) {
    if (item.step == Step::there) continue;
    Status done = item.step == Step::conflict ? Status(Error(ErrorKind::conflict, item.note)) : take(item);
    if (done.ok()) {
      session.out().line(concat(item.kind, " ", item.name, ": taken over"));
    } else {
      ++failures;
      print_error(session.err(), Error(done.error()).in(concat("caisson: ", item.kind, " ", item.name)));
    }
    ignore(session.out().flush());  // kept, and told at the end
  }
  return failures;
}

struct Wanted {
  bool images = true;
  bool volumes = true;
  bool containers = true;
};

Result<Wanted> wanted_kinds(const Invocation& invocation) {
  auto only = invocation.list("only");
  if (only.empty()) return Wanted{};
  Wanted wanted{false, false, false};
  for (const auto& list : only)
    for (auto kind : split(list, ',')) {
      if (kind == "images") wanted.images = true;
      else if (kind == "volumes") wanted.volumes = true;
      else if (kind == "containers") wanted.containers = true;
      else return Error(ErrorKind::invalid, concat("invalid argument \"", kind, "\" for \"--only\" flag: it can be images, volumes or containers"));
    }
  return wanted;
}

Result<std::string> daemon_root(Session& session) {
  auto info = TRY_PLAIN(session.get("/info"));
  std::string root;
  TRY_PLAIN(JsonView(info).read("DockerRootDir", root));
  if (!TRY_PLAIN(linux::exists(root))) return Error(ErrorKind::unsupported, concat("the daemon's folder ", root, " is not on this machine: import on the daemon's own host"));
  return root;
}

}  // namespace

Result<int> import_docker(Session& session, const Invocation& invocation) {
  if (linux::geteuid() != 0) return Error(ErrorKind::denied, "only root may read Docker's folder").with_hint("sudo caisson import-docker");
  Wanted wanted = TRY_PLAIN(wanted_kinds(invocation));
  DockerFolder folder = TRY_PLAIN(read_docker_folder(std::string(invocation.text("docker-root"))));
  Journal journal = TRY_PLAIN(Journal::open(TRY_PLAIN(daemon_root(session)), folder.root));
  Plan plan;
  if (wanted.images) plan.images = TRY_PLAIN(plan_images(session, folder));
  if (wanted.containers) plan.networks = TRY_PLAIN(plan_networks(session, folder, journal));
  if (wanted.volumes) plan.volumes = TRY_PLAIN(plan_volumes(session, folder, journal));
  if (wanted.containers) plan.containers = TRY_PLAIN(plan_containers(session, folder, journal));
  order_containers(folder, plan.containers);
  if (!invocation.flag("yes")) {
    print_plan(session.out(), folder, plan);
    session.out().line("Nothing was changed. To do it: caisson import-docker --yes");
    return 0;
  }
  Import import(session, folder, journal);
  std::size_t failures = carry_out(session, plan.images, [&](const Item& item) { return import.image(item); });
  failures += carry_out(session, plan.networks, [&](const Item& item) { return import.network(item); });
  failures += carry_out(session, plan.volumes, [&](const Item& item) { return import.volume(item); });
  failures += carry_out(session, plan.containers, [&](const Item& item) { return import.container(item); });
  if (failures != 0) session.err().line(concat(failures, failures == 1 ? " was" : " were", " not taken over; the same command tries again"));
  return failures == 0 ? 0 : 1;
}

}  // namespace caisson::cli
