// Alerts on single members of a Patroni cluster.
{
  local c = $._config,
  local q = (import '../promql.libsonnet')(c),
  local p = q.patroni,
  local name = c.clusterName,
  local member = '{{ $labels.name }} of %s' % name,
  local node = '{{ with $labels.name }}{{ . }}{{ else }}{{ $labels.instance }}{{ end }}{{ with $labels.scope }} of %s{{ end }}' % name,
  local paused = '%s == 1' % q.cluster('patroni:cluster_paused'),
  local leaders = q.member('patroni:member_leader'),
  local state(states) = q.member(p('patroni_member_state', 'state=~"%s"' % states)),
  local created = 'unless %s' % q.member('max_over_time(%s[1h])' % p('patroni_member_state', 'state="creating replica"')),
  // Patroni reports "streaming" since 3.0.4. During an upgrade the oldest node counts.
  local reports_streaming = 'and %s min %s (min_over_time(%s[15m])) >= 30004' % [q.on(), q.by(), p('patroni_version')],
  local timelines = q.member(p('patroni_member_timeline')),
  local leader_timeline = 'max %s (%s and %s == 1)' % [q.by(), timelines, leaders],
  local lag(match) = q.member('patroni:member_lag_bytes%s' % (if match == '' then '' else '{%s}' % match)),
  local hung = '%s == 0 and %s %s == 1' % [
    p('patroni_up'),
    q.onTarget,
    p('patroni_scrape_collector_success', 'collector="cluster"'),
  ],
  // The targets of the expression, with the names that their nodes had when they answered.
  named(expr):: |||
    %(known)s
    and %(on)s (
      %(expr)s
    )
    or %(on)s (
      %(expr)s
    )
  ||| % { on: q.onTarget, known: q.target('patroni:target_known'), expr: std.strReplace(std.rstripChars(expr, '\n'), '\n', '\n  ') },

  prometheusAlerts+:: q.groups([{
    name: c.groupNames.members,
    rules: [
      q.alert(
        'PatroniUnreachable',
        'warning',
        $.named('%s == 0 unless %s (%s)' % [p('patroni_up'), q.onTarget, hung]),
        'Patroni of %s does not answer' % node,
        'The exporter for {{ $labels.instance }} answers and Patroni does not: Patroni or its host is down.',
        '5m',
      ),
      q.alert(
        'PatroniPostgresHung',
        'critical',
        $.named(hung),
        'PostgreSQL of %s hangs' % node,
        'Patroni at {{ $labels.instance }} answers /cluster and does not answer /patroni: it waits for its PostgreSQL.',
        '3m',
      ),
      // Starting members are in PatroniNoLeader, or in PatroniReplicaNotStreaming where Patroni reports "streaming". In
      // maintenance mode a stop is planned.
      q.alert(
        'PatroniMemberDown',
        'warning',
        |||
          %s == 0
          unless %s
          unless (%s %s)
          unless %s %s
          unless %s %s
        ||| % [
          q.member('patroni:member_up'),
          q.member('patroni:member_building'),
          state('starting|restarting'),
          reports_streaming,
          q.on(),
          paused,
          q.on(),
          q.bootstrapping,
        ],
        'PostgreSQL of %s does not run' % member,
        '{{ $labels.name }} is a member of %s, and its PostgreSQL is stopped, crashed or cannot start.' % name,
        '5m',
        c.viewMovesFor,
      ),
      q.alert(
        'PatroniMemberMissing',
        'warning',
        |||
          %(known)s
          unless %(listed)s
          and %(on)s (%(members)s < %(before)s)
          unless %(on)s %(paused)s%(expected)s
        ||| % {
          on: q.on(),
          known: q.member('patroni:member_known'),
          listed: q.member(p('patroni_member_info')),
          members: q.cluster(p('patroni_cluster_members')),
          before: q.cluster('patroni:members_known'),
          paused: paused,
          expected: std.join('', ['\nunless %s %s' % [q.on(), q.cluster(p('patroni_cluster_members', entry.match))] for entry in c.expectedMembers]),
        },
        '{{ $labels.name }} is missing in %s' % name,
        '{{ $labels.name }} was a member of %s in the last %s and is not listed any more.' % [name, c.memberMemory],
        '5m',
        c.viewMovesFor,
      ),
      // A replica lives from an archive only with the tag nostream.
      q.alert(
        'PatroniReplicaNotStreaming',
        'warning',
        |||
          %s
          unless %s == 1
          %s
          unless %s
          unless %s
          %s
        ||| % [
          state('running|starting|restarting|in archive recovery'),
          leaders,
          reports_streaming,
          q.member(p('patroni_member_tag_info', 'tag="nostream",value=~"(?i:true|on|yes|1)"')),
          state('streaming'),
          created,
        ],
        '%s does not stream' % member,
        '{{ $labels.name }} follows in %s and does not stream from its leader.' % name,
        '5m',
        '5m',
      ),
      q.alert(
        'PatroniStandbyLeaderNotStreaming',
        'warning',
        |||
          %s == 1
          unless %s
          unless %s == 0
          %s
        ||| % [
          q.member(p('patroni_member_role', 'role="standby_leader"')),
          state('streaming'),
          q.member('patroni:member_up'),
          reports_streaming,
        ],
        '%s does not stream from its source' % member,
        '{{ $labels.name }} leads the standby cluster %s and does not stream from the cluster that it follows.' % name,
        '5m',
        '5m',
      ),
      q.alert(
        'PatroniReplicaLag',
        'warning',
        '(%s)\n%s' % [q.compare(lag, '>', 'lagBytes'), created],
        '%s lags' % member,
        '{{ $labels.name }} is {{ $value | humanize1024 }}B behind the leader of %s.' % name,
        '5m',
        '5m',
      ),
      q.alert(
        'PatroniReplicaLagGrowing',
        'warning',
        |||
          (%s)
          and %s > %s
          %s
        ||| % [
          q.compare(
            function(match) q.member('deriv(patroni:member_lag_bytes%s[15m])' % (if match == '' then '' else '{%s}' % match)),
            '>',
            'lagGrowthBytesPerSecond'
          ),
          lag(''),
          q.member('patroni:member_lag_bytes offset 5m'),
          created,
        ],
        'The lag of %s grows' % member,
        '{{ $labels.name }} falls behind the leader of %s by {{ $value | humanize1024 }}B a second.' % name,
        '10m',
        '5m',
      ),
      q.alert(
        'PatroniReplicaLagUnknown',
        'warning',
        '%s == 0\n%s' % [q.member('patroni:member_lag_known'), created],
        'The lag of %s is not known' % member,
        'Patroni has not reported the lag of {{ $labels.name }} in %s for more than %s.' % [name, c.lagUnknownFor],
        c.lagUnknownFor,
        c.viewMovesFor,
      ),
      q.alert(
        'PatroniReplicaOldTimeline',
        'warning',
        '(%s > 0) < %s group_left () %s' % [timelines, q.on(), leader_timeline],
        '%s is on an old timeline' % member,
        '{{ $labels.name }} is on timeline {{ $value }}, which the leader of %s has left.' % name,
        '5m',
        c.viewMovesFor,
      ),
      q.alert(
        'PatroniReplicaNewerTimeline',
        'warning',
        '%s > %s group_left () (%s > 0)' % [timelines, q.on(), leader_timeline],
        '%s is on a newer timeline than its leader' % member,
        '{{ $labels.name }} is on timeline {{ $value }}, and the leader of %s is on a lower one: it was promoted.' % name,
        '5m',
        c.viewMovesFor,
      ),
      q.alert(
        'PatroniReplayPaused',
        'warning',
        'max %s (%s) == 1' % [q.by(['name', 'instance']), p('patroni_xlog_paused')],
        'Replay is paused on %s' % node,
        '{{ $labels.name }} ({{ $labels.instance }}) receives and does not replay: its readers see old data.',
        '5m',
      ),
      q.alert(
        'PatroniPendingRestart',
        'info',
        '%s == 1' % q.member('last_over_time(%s[5m])' % p('patroni_member_pending_restart')),
        '%s waits for a restart' % member,
        '{{ $labels.name }} has waited for a restart of PostgreSQL for more than %s.' % c.pendingRestartFor,
        c.pendingRestartFor,
      ),
      // As of the scrape, and not while it still moves: then a clock is wrong.
      q.alert(
        'PatroniDCSNotSeen',
        'warning',
        '(%s)\nunless %s changes(%s[2m]) > 0' % [
          q.compare(
            function(match)
              'max %s (timestamp(%s) - (%s > 0))' % [
                q.by(['name', 'instance']),
                p('patroni_dcs_last_seen', match),
                p('patroni_dcs_last_seen', match),
              ],
            '>',
            'dcsSeconds'
          ),
          q.on(['name', 'instance']),
          p('patroni_dcs_last_seen'),
        ],
        '%s does not reach the DCS' % node,
        '{{ $labels.name }} ({{ $labels.instance }}) last reached its DCS {{ $value | humanizeDuration }} ago.',
        '1m',
        '2m',
      ),
      q.alert(
        'PatroniWatchdogFailed',
        'warning',
        'max %s (%s) == 1' % [q.by(['name', 'instance']), p('patroni_watchdog_failed')],
        'The watchdog of %s failed' % node,
        'Patroni on {{ $labels.name }} ({{ $labels.instance }}) cannot use its watchdog: if it hangs, nothing stops PostgreSQL.',
        '5m',
      ),
      q.alert(
        'PatroniLogRecordsLost',
        'info',
        'max %s (changes(%s[15m])) > 0' % [q.by(['name', 'instance']), p('patroni_logger_records_lost')],
        'Patroni of %s loses log records' % node,
        'Patroni on {{ $labels.name }} ({{ $labels.instance }}) cannot write its log fast enough.',
      ),
      q.alert(
        'PatroniCertificateExpires',
        'warning',
        q.compare(
          function(match)
            'min %s (%s) - time()' % [q.by(['name', 'instance']), p('patroni_tls_certificate_not_after_timestamp_seconds', match)],
          '<',
          'certificateSeconds'
        ),
        'The certificate of %s expires soon' % node,
        'The certificate of the REST API of {{ $labels.name }} ({{ $labels.instance }}) expires in {{ $value | humanizeDuration }}.',
        '1h',
      ),
    ],
  }]),
}
