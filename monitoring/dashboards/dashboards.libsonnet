// The dashboards of monitoring/grafana, with the thresholds, cluster labels and links of `_config`. The Python package there
// writes them with the defaults.
local defaults = (import '../config.libsonnet')._config;
local files = {
  'patroni-fleet.json': importstr '../grafana/patroni-fleet.json',
  'patroni-cluster.json': importstr '../grafana/patroni-cluster.json',
  'staytus.json': importstr '../grafana/staytus.json',
};
local runbook(config) = std.split(std.split(config.runbookURLPattern, '#')[0], '%s')[0];
// The labels of a cluster but its scope: they have a variable of their own, as `job` has in any case.
local others(config) = std.filter(function(label) label != 'scope', config.clusterLabels);
// What depends on the labels of a cluster: in queries, in the link to a cluster, and in the names of lines.
local texts(config) = [
  std.join(', ', config.clusterLabels),
  std.join(',', ['%s=~"$%s"' % [label, label] for label in others(config)]),
  std.join('', ['&var-' + label + '=${__data.fields.' + label + '}' for label in std.reverse(others(config))]),
  std.join(' ', ['{{%s}}' % label for label in others(config) if label != 'cluster'] + ['{{scope}}']),
];

{
  local c = $._config,
  local steps = { [std.toString(defaults[key])]: c[key] for key in ['lagBytes', 'dcsSeconds'] },

  local thresholds(value, key='') =
    if key == 'steps' then
      [step { value: if step.value == null then null else std.get(steps, std.toString(step.value), step.value) } for step in value]
    else if std.isObject(value) then { [name]: thresholds(value[name], name) for name in std.objectFields(value) }
    else if std.isArray(value) then [thresholds(item) for item in value]
    else if std.isString(value) then
      // Without other labels than the scope there is no matcher, and no comma after it.
      local text = if others(c) == [] then std.strReplace(value, texts(defaults)[1] + ',', '') else value;
      std.foldl(function(all, n) std.strReplace(all, texts(defaults)[n], texts(c)[n]), std.range(0, 3), text)
    else value,

  // The variables, with one for each label.
  local variables(list) =
    local named = { [variable.name]: variable for variable in list };
    local of(label) = {
      [key]: if std.isString(named.cluster[key]) then
        std.strReplace(std.strReplace(named.cluster[key], 'cluster', label), 'Cluster', std.asciiUpper(label[0]) + label[1:])
      else named.cluster[key]
      for key in std.objectFields(named.cluster)
    };
    std.flattenArrays([
      if variable.name == 'namespace' then [of(label) for label in std.reverse(others(c)) if label != 'job']
      else if variable.name == 'cluster' then []
      else [variable]
      for variable in list
    ]),

  local links(link) =
    if link.title == 'Runbook' then link { url: runbook(c) }
    else if link.title == 'PostgreSQL' then link { url: c.postgresDashboardURL }
    else link { tags: c.dashboardTags },

  grafanaDashboards+:: {
    [file]: thresholds(std.parseJson(files[file])) + {
      tags: c.dashboardTags,
      links: [links(link) for link in super.links],
      templating+: { list: variables(super.list) },
    }
    for file in std.objectFields(files)
  },
}
