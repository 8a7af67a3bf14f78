// Alerts on Staytus.
{
  local c = $._config,
  local q = (import '../promql.libsonnet')(c),
  local s = q.staytus,
  local status(value) = 'max by (job, service_permalink) (last_over_time(%s[5m]))' % s('service_status', 'service_status="%s"' % value),

  prometheusAlerts+:: q.groups([{
    name: c.groupNames.staytus,
    rules: [
      q.alert(
        'StaytusUnreachable',
        'warning',
        '%s == 0' % s('staytus_up'),
        'Staytus does not answer {{ $labels.instance }}',
        'Staytus is down, or it denies the token and secret of the exporter {{ $labels.instance }}.',
        '5m',
      ),
      q.alert(
        'StaytusServiceMajor',
        'critical',
        'max by (job, service_permalink) (%s) == 1' % s('service_status', 'service_status="major"'),
        '{{ $labels.service_permalink }} has a major outage',
        'The status page shows a major outage of {{ $labels.service_permalink }}.',
        '1m',
      ),
      q.alert(
        'StaytusServiceMinor',
        'warning',
        'max by (job, service_permalink) (%s) == 1' % s('service_status', 'service_status="minor"'),
        '{{ $labels.service_permalink }} has a minor outage',
        'The status page shows a minor outage of {{ $labels.service_permalink }}.',
        '5m',
      ),
      q.alert(
        'StaytusMaintenanceTooLong',
        'warning',
        '%s == 1' % status('maintenance'),
        '{{ $labels.service_permalink }} is still in maintenance',
        'The status page has shown {{ $labels.service_permalink }} in maintenance for more than %s.' % c.maintenanceFor,
        c.maintenanceFor,
      ),
      // Joined per scrape: two exporters can have read an issue under two titles.
      q.alert(
        'StaytusIssueForgotten',
        'warning',
        |||
          max by (job, identifier, title) (
            (time() - max by (job, instance, identifier) (%s))
            * on (job, instance, identifier) group_right () %s
          ) > %s
        ||| % [s('staytus_open_issue_updated_timestamp_seconds'), s('staytus_open_issue_info'), c.issueSeconds],
        'An open issue is forgotten: {{ $labels.title }}',
        'The status page shows this issue as open, and its last update is {{ $value | humanizeDuration }} old.',
      ),
      // While an issue is only monitored, its services may well be ok.
      q.alert(
        'StaytusAllOkWhileIssueOpen',
        'info',
        |||
          sum by (job) (max by (job, state) (%s)) > 0
          and min by (job) (max by (job, service_permalink) (%s)) == 1
        ||| % [
          s('staytus_issues', 'state=~"investigating|identified"'),
          s('service_status', 'service_status="ok"'),
        ],
        'An issue is open and every service is ok',
        '{{ $value }} issues are investigated or identified, and the status page shows all services as ok.',
        '15m',
      ),
    ],
  }]),
}
