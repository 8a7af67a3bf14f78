// What users set. Import the mixin and add to it: (import 'mixin.libsonnet') + { _config+:: { lagBytes: 1073741824 } }
{
  _config+:: {
    // The labels that identify a cluster. A label that is not there costs nothing. Where namesakes differ in another label,
    // such as `environment` or `job`, add it. All but `scope` must be labels of the targets.
    clusterLabels: ['cluster', 'namespace', 'scope'],
    // How annotations name a cluster: a template of Prometheus.
    clusterName: '{{ with $labels.namespace }}{{ . }}/{{ end }}{{ $labels.scope }}',

    // Added to every selector of a family, such as 'job=~"patroni.*"'. Empty selects everything.
    patroniSelector: '',
    staytusSelector: '',
    // Scrape jobs whose targets are exporters, also when none of them has ever answered.
    exporterJobs: 'patroni|patroni-clusters|staytus',
    // The labels that identify an exporter in front of many targets: all targets with the same values have the same exporter.
    exporterLabels: ['job'],

    // Thresholds. Those marked with * can be set per cluster in `perCluster`.
    lagBytes: 134217728,  // * PatroniReplicaLag
    lagGrowthBytesPerSecond: 65536,  // * PatroniReplicaLagGrowing
    // * Lag up to which a replica can take over, if `maximum_lag_on_failover` is not greater. Patroni measures the lag of
    // /cluster in two moments, so a replica of a busy leader shows some megabytes although it has received everything.
    candidateLagBytes: 16777216,
    // patroni:member_lag_seconds is 0 below this lag: on an idle leader the last transaction is always old.
    lagSecondsFromBytes: 1048576,
    dcsSeconds: 60,  // * PatroniDCSNotSeen; more than loop_wait and retry_timeout together
    leaderChangesPerHour: 3,  // * PatroniLeaderFlapping
    switchoverAheadSeconds: 86400,  // * PatroniSwitchoverScheduled
    certificateSeconds: 1209600,  // * PatroniCertificateExpires
    issueSeconds: 14400,  // StaytusIssueForgotten

    // Durations: how long a condition must last. `pausedFor` can be set per cluster.
    pausedFor: '1h',  // * PatroniPaused
    pendingRestartFor: '1d',
    lagUnknownFor: '15m',
    maintenanceFor: '4h',  // StaytusMaintenanceTooLong
    // Where one member of each cluster returns /cluster: how long alerts go on firing while another member takes its place.
    viewMovesFor: '2m',

    // How long the rules remember. A planned removal is acknowledged by a silence of this length.
    memberMemory: '7d',  // PatroniMemberMissing
    clusterMemory: '1d',  // PatroniClusterLost, PatroniSplitBrainPossible, ExporterDown

    // Thresholds of single clusters, for example
    //   [{ match: 'scope="dwh"', lagBytes: 10737418240, pausedFor: '8h' }]
    // `match` is a selector of cluster labels. The first entry that matches and has the threshold wins.
    perCluster: [],
    // Clusters with a known number of members, for example [{ match: 'scope="main"', members: 3 }]. For these,
    // PatroniTooFewMembers replaces the memory of PatroniMemberMissing.
    expectedMembers: [],

    severities: {},  // per alert, for example { PatroniReplicaLag: 'info' }
    alertLabels: {},  // added to every alert, for example { team: 'dba' }
    disabledAlerts: [],
    watchdog: true,  // an alert that always fires; set to false where another Watchdog exists

    runbookURLPattern: 'RUNBOOK.md#%s',
    // Annotation `dashboard_url` of alerts that name a cluster; empty leaves it out. For example
    // 'https://grafana.example.org/d/patroni-cluster?var-scope={{ $labels.scope }}'
    dashboardURL: '',
    // The dashboard of postgres_exporter that the cluster dashboard links to.
    postgresDashboardURL: '/dashboards?query=postgres',
    dashboardTags: ['patroni-staytus-exporter'],

    // The groups by key: names in Prometheus and file names in monitoring/rules.
    groupNames: {
      views: 'patroni-views',
      memory: 'patroni-memory',
      cluster: 'patroni-cluster',
      members: 'patroni-members',
      exporter: 'patroni-exporter',
      staytus: 'staytus',
    },
    // The metadata of the PrometheusRule objects for the Prometheus Operator.
    prometheusRuleMetadata: { labels: { 'app.kubernetes.io/name': 'patroni-staytus-exporter' } },
  },
}
