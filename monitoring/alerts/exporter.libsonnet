// Alerts on the exporter itself, and what other alerts need to know of it.
{
  local c = $._config,
  local q = (import '../promql.libsonnet')(c),
  local p = q.patroni,
  local s = q.staytus,

  // 1 for a cluster of which any node answers with the document of the collector, 0 where none does.
  collected(collector):: |||
    max %s (
      max %s (patroni:target_cluster)
      * %s group_left ()
      max %s (%s)
    )
  ||| % [
    q.by(),
    q.by(c.exporterLabels + ['job', 'instance']),
    q.onTarget,
    q.byTarget(),
    p('patroni_scrape_collector_success', 'collector="%s"' % collector),
  ],

  // A document that fails, with the scope of the target where it is known.
  local scopes = 'group %s (patroni:target_cluster)' % q.byTarget(', scope'),
  local failing = '(%s == 0 unless %s %s == 0)' % [
    p('patroni_scrape_collector_success'),
    q.onTarget,
    p('patroni_up'),
  ],

  prometheusAlerts+:: q.groups([{
    name: c.groupNames.exporter,
    rules: [
      q.alert(
        'ExporterDown',
        'warning',
        $.named(|||
          up == 0
          and %s (exporter:target_known or exporter:build_known or up{job=~"%s"})
          unless on (%s) exporter:job_unreachable
        ||| % [q.onTarget, c.exporterJobs, std.join(', ', c.exporterLabels)]),
        'The scrape of {{ $labels.instance }} fails',
        'Prometheus gets no answer for {{ $labels.instance }} of job {{ $labels.job }}: the exporter or its host is down.',
        '5m',
      ),
      q.alert(
        'ExporterProbesDown',
        'critical',
        'exporter:job_unreachable == 0',
        'The exporter of job {{ $labels.job }} does not answer',
        'Every probe of job {{ $labels.job }} fails: the exporter is down, and nothing is known of its targets.',
        '5m',
      ),
      // A target of two clusters is left alone: it would be an error, and an error is silent.
      q.alert(
        'ExporterEndpointFailing',
        'warning',
        |||
          %(failing)s
          + %(on)s group_left (scope) (
            0 * (%(scopes)s and %(on)s count %(by)s (%(scopes)s) == 1)
          )
          or %(failing)s unless %(on)s patroni:target_cluster
          or (%(staytus)s == 0 unless %(on)s %(up)s == 0)
        ||| % {
          on: q.onTarget,
          by: q.byTarget(),
          failing: failing,
          scopes: scopes,
          staytus: s('staytus_scrape_collector_success'),
          up: s('staytus_up'),
        },
        '{{ $labels.instance }} does not return {{ $labels.collector }}',
        'The scrape of {{ $labels.instance }} works, except for the document {{ $labels.collector }}.',
        '5m',
        '5m',
      ),
      // The second name is the one of version 1.
      q.alert(
        'ExporterConfigReloadFailed',
        'warning',
        'patroni_staytus_exporter_config_last_reload_successful == 0 or exporter_config_last_reload_successful == 0',
        'The exporter {{ $labels.instance }} cannot load its modules file',
        'The modules file of {{ $labels.instance }} has an error; the exporter goes on with the last one that it could load.',
        '15m',
      ),
      q.alert(
        'ExporterDiscoveryStale',
        'warning',
        'max by (job, instance, module) (patroni_staytus_exporter_discovery_clusters_stale) > 0',
        '{{ $value }} clusters of module {{ $labels.module }} cannot be discovered',
        'No member of {{ $value }} clusters returns its cluster to {{ $labels.instance }}: /sd returns their last known members, without new ones.',
        '15m',
      ),
      q.alert(
        'ExporterTargetsRefused',
        'warning',
        'max by (job, instance, module) (patroni_staytus_exporter_discovery_targets_refused) > 0',
        '{{ $value }} members are not among the targets of module {{ $labels.module }}',
        'Patroni lists {{ $value }} members under addresses that the key targets of module {{ $labels.module }} does not have: {{ $labels.instance }} refuses to scrape them.',
        '5m',
      ),
      q.alert(
        'ExporterProbesRefused',
        'warning',
        'sum by (job, instance) (rate(patroni_staytus_exporter_probes_refused_total[5m])) > 0',
        'The exporter {{ $labels.instance }} refuses probes',
        '{{ $labels.instance }} refuses {{ $value | humanize }} probes per second, because too many others wait for their targets, or its CPU is overloaded: healthy targets are missing too.',
        '10m',
      ),
    ] + (
      if !c.watchdog then [] else [q.alert(
        'Watchdog',
        'none',
        'vector(1)',
        'Alerts are delivered',
        'This alert always fires. If it stops, Prometheus, Alertmanager or the connection between them is broken.',
      )]
    ),
  }]),
}
