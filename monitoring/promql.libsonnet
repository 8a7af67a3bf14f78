// Parts of expressions that depend on the configuration.
function(c) {
  local unique(labels) = std.foldl(function(all, label) if std.member(all, label) then all else all + [label], labels, []),
  local labels(extra) = std.join(', ', unique(c.clusterLabels + extra)),
  // All cluster labels but the scope, which the exporter reports, are labels of the targets.
  local target = std.join(', ', unique([label for label in c.clusterLabels if label != 'scope'] + c.exporterLabels + ['job', 'instance'])),
  local braces(selector, matchers) =
    local parts = std.filter(function(part) part != '', [selector, matchers]);
    if parts == [] then '' else '{%s}' % std.join(',', parts),

  // `by (…)` and `on (…)` of the cluster's labels and these.
  by(extra=[]):: 'by (%s)' % labels(extra),
  on(extra=[]):: 'on (%s)' % labels(extra),

  // The labels of a target.
  byTarget(extra=''):: 'by (%s%s)' % [target, extra],
  onTarget:: 'on (%s)' % target,

  // A family of Patroni or Staytus.
  patroni(family, matchers=''):: family + braces(c.patroniSelector, matchers),
  staytus(family, matchers=''):: family + braces(c.staytusSelector, matchers),

  // One sample per cluster, or per member, whatever number of exporters or rulers it comes from.
  cluster(expr):: 'max %s (%s)' % [self.by(), expr],
  member(expr):: 'max %s (%s)' % [self.by(['name']), expr],
  target(expr):: 'max %s (%s)' % [self.by(['name'] + c.exporterLabels + ['job', 'instance']), expr],

  // Clusters that a member bootstraps: they have never had a leader.
  bootstrapping:: self.cluster(self.patroni(
    'patroni_member_state', 'state=~"initi?alizing new cluster|.*custom bootstrap.*",state!~".*failed"'
  )),

  // The expression compared with a threshold, which clusters of `perCluster` replace. `vector` is a function from matchers
  // of cluster labels to an expression.
  compare(vector, operator, threshold)::
    local own = [entry for entry in c.perCluster if std.objectHas(entry, threshold)];
    local rest(n) = std.join('', [' unless %s' % vector(own[i].match) for i in std.range(0, n - 1)]);
    local compared = [
      '(%s%s) %s %s' % [vector(own[n].match), rest(n), operator, own[n][threshold]]
      for n in std.range(0, std.length(own) - 1)
    ];
    if own == [] then '%s %s %s' % [vector(''), operator, c[threshold]]
    else std.join(' or ', compared + ['(%s%s) %s %s' % [vector(''), rest(std.length(own)), operator, c[threshold]]]),

  // The same rule once for all clusters and once for each of `perCluster` that has another duration.
  perDuration(vector, duration, rule)::
    local own = [entry for entry in c.perCluster if std.objectHas(entry, duration)];
    local rest(n) = std.join('', [' unless %s' % vector(own[i].match) for i in std.range(0, n - 1)]);
    [rule(vector(own[n].match) + rest(n), own[n][duration]) for n in std.range(0, std.length(own) - 1)]
    + [rule(vector('') + rest(std.length(own)), c[duration])],

  alert(name, severity, expr, summary, description, duration='', keep='', labels={}):: {
    alert: name,
    expr: expr,
    [if duration != '' then 'for']: duration,
    [if keep != '' then 'keep_firing_for']: keep,
    labels: { severity: std.get(c.severities, name, severity) } + labels + c.alertLabels,
    annotations: {
      summary: summary,
      description: description,
      runbook_url: c.runbookURLPattern % std.asciiLower(name),
      [if c.dashboardURL != '' && std.length(std.findSubstr('$labels.scope', summary)) > 0 then 'dashboard_url']: c.dashboardURL,
    },
  },
  record(name, expr):: { record: name, expr: expr },

  // Rules as groups, without those that are disabled.
  groups(groups):: {
    groups+: [
      group { rules: [rule for rule in group.rules if !std.member(c.disabledAlerts, std.get(rule, 'alert', ''))] }
      for group in groups
    ],
  },
}
