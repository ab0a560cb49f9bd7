// Materials as resource descriptors, and the document around them.
#include "build/provenance.hpp"

#include <algorithm>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "build/fetch.hpp"
#include "image/manifest.hpp"
#include "wire/http_server.hpp"

namespace caisson::build {

namespace {

constexpr std::string_view build_type = "https://caisson.dev/build/dockerfile/v1";

std::string git_uri(const std::string& address) {
  auto bare = without_credentials(address);
  if (bare.find("://") != std::string::npos) return concat("git+", bare);
  if (!dockerfile::is_ssh_git_url(bare)) return concat("git+https://", bare);  // github.com/…
  if (const auto colon = bare.find(':'); colon != std::string::npos && bare.compare(colon, 2, ":/") != 0) bare[colon] = '/';
  else if (colon != std::string::npos) bare.erase(colon, 1);
  return concat("git+ssh://", bare);
}

json::object descriptor(const Material& material) {
  return {{"uri", material.uri}, {"digest", json::object{{material.algorithm, material.value}}}};
}

template <typename Map>
json::object texts_of(const Map& values) {
  json::object out;
  for (const auto& [name, value] : values) out[name] = value;
  return out;
}

/// The commit or archive that a build's address led to; a context that was sent has no address.
json::object config_source(const BuildRequest& request, const dockerfile::Source& source, const std::vector<Material>& materials) {
  json::object out;
  if (!request.remote.empty()) {
    const auto uri = dockerfile::is_git_url(request.remote) ? git_uri(request.remote) : without_credentials(request.remote);
    auto found = std::find_if(materials.begin(), materials.end(), [&](const Material& material) { return material.uri == uri; });
    out = found == materials.end() ? json::object{{"uri", uri}} : descriptor(*found);
  }
  out["path"] = source.name;
  return out;
}

json::object parameters(const BuildRequest& request, const dockerfile::Source& source, const ProvenanceFacts& facts) {
  json::object out{{"frontend", "dockerfile"}, {"platform", facts.platform}};
  if (!request.target.empty()) out["target"] = request.target;
  if (!request.network.empty()) out["network"] = request.network;
  if (!request.allowed.empty()) out["entitlements"] = texts({request.allowed.begin(), request.allowed.end()});
  if (request.provenance != Provenance::max) return out;
  if (!request.arguments.empty()) out["args"] = texts_of(request.arguments);
  if (!request.labels.empty()) out["labels"] = texts_of(request.labels);
  json::array secrets;
  for (const auto& secret : request.secrets) secrets.push_back(json::value(secret.first));
  if (!secrets.empty()) out["secrets"] = std::move(secrets);
  json::object contexts;
  for (const auto& [name, context] : request.contexts) contexts[name] = context.kind == ContextKind::folder ? "a folder" : without_credentials(context.value);
  if (!contexts.empty()) out["contexts"] = std::move(contexts);
  out["dockerfile"] = source.text;
  return out;
}

}  // namespace

Material image_material(const std::string& name, const image::Image& image) {
  Material out;
  out.algorithm = image.id.algorithm();
  out.value = image.id.hex();
  const auto reference = parse_reference(name);
  if (!reference.ok()) {  // called by its id
    out.uri = concat("pkg:docker/", name, "?platform=", wire::percent_encode(image::platform_text({image.os, image.architecture, image.variant})));
    return out;
  }
  for (const auto& text : image.repo_digests) {
    const auto known = parse_reference(text);
    if (!known.ok() || !known->digest || known->repository() != reference->repository()) continue;
    out.algorithm = known->digest->algorithm();
    out.value = known->digest->hex();
  }
  const auto version = reference->tag.empty() ? std::string() : concat("@", reference->tag);
  out.uri = concat("pkg:docker/", reference->familiar_name(), version, "?platform=", wire::percent_encode(image::platform_text({image.os, image.architecture, image.variant})));
  return out;
}

Material git_material(const std::string& address, const std::string& commit) { return {git_uri(address), "gitCommit", commit}; }

Material url_material(const std::string& address, const Digest& content) { return {without_credentials(address), std::string(content.algorithm()), std::string(content.hex())}; }

void Materials::add(Material material) {
  std::lock_guard lock(mutex_);
  known_.insert(std::move(material));
}

std::vector<Material> Materials::all() const {
  std::lock_guard lock(mutex_);
  return {known_.begin(), known_.end()};
}

std::string write_provenance(const BuildRequest& request, const dockerfile::Source& source, const std::vector<Material>& materials, const ProvenanceFacts& facts) {
  json::array used;
  for (const auto& material : materials) used.push_back(descriptor(material));
  json::object definition{{"buildType", build_type},
                          {"externalParameters", json::object{{"configSource", config_source(request, source, materials)}, {"request", parameters(request, source, facts)}}},
                          {"internalParameters", json::object{{"builderPlatform", facts.build_platform}}},
                          {"resolvedDependencies", std::move(used)}};
  json::object run{{"builder", json::object{{"id", "https://caisson.dev/caissond"}, {"version", json::object{{"caissond", CAISSON_VERSION}}}}},
                   {"metadata", json::object{{"invocationId", facts.id}, {"startedOn", to_rfc3339(facts.started)}, {"finishedOn", to_rfc3339(facts.ended)}}}};
  return to_text(json::object{{"buildDefinition", std::move(definition)}, {"runDetails", std::move(run)}});
}

}  // namespace caisson::build
