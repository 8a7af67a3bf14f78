// The dashboards of monitoring/grafana, with the thresholds, cluster labels and links of `_config`. The Python package there
// writes them with the defaults.
local defaults = (import '../config.libsonnet')._config;
local files = {
  'patroni-fleet.json': importstr '../grafana/patroni-fleet.json',
  'patroni-cluster.json': importstr '../grafana/patroni-cluster.json',
  'staytus.json': importstr '../grafana/staytus.json',
};
local labels(config) = std.join(', ', config.clusterLabels);
local runbook(config) = std.split(config.runbookURLPattern, '#')[0];

{
  local c = $._config,
  local steps = { [std.toString(defaults[key])]: c[key] for key in ['lagBytes', 'dcsSeconds'] },

  local thresholds(value, key='') =
    if key == 'steps' then
      [step { value: if step.value == null then null else std.get(steps, std.toString(step.value), step.value) } for step in value]
    else if std.isObject(value) then { [name]: thresholds(value[name], name) for name in std.objectFields(value) }
    else if std.isArray(value) then [thresholds(item) for item in value]
    else if std.isString(value) then std.strReplace(value, labels(defaults), labels(c))
    else value,

  local links(link) =
    if link.title == 'Runbook' then link { url: runbook(c) }
    else if link.title == 'PostgreSQL' then link { url: c.postgresDashboardURL }
    else link { tags: c.dashboardTags },

  grafanaDashboards+:: {
    [file]: thresholds(std.parseJson(files[file])) + {
      tags: c.dashboardTags,
      links: [links(link) for link in super.links],
    }
    for file in std.objectFields(files)
  },
}
