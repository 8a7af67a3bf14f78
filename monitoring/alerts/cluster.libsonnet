// Alerts on a Patroni cluster as a whole.
{
  local c = $._config,
  local q = (import '../promql.libsonnet')(c),
  local p = q.patroni,
  local name = c.clusterName,
  local paused = '%s == 1' % q.cluster('patroni:cluster_paused'),

  local unled = 'min %s (patroni:target_leaders) == 0' % q.by(),
  local leaders = q.member('patroni:member_leader'),
  // Where the number of members is configured it counts, else the greatest one that is remembered.
  local several_members =
    local known = q.cluster('patroni:members_known');
    local expected(entry) = q.cluster(p('patroni_cluster_members', entry.match));
    if c.expectedMembers == [] then '%s > 1' % known
    else '(%s)' % std.join(' or ', ['(%s) > 1' % std.join(' unless ', [known] + std.map(expected, c.expectedMembers))]
                                   + [expected(entry) for entry in c.expectedMembers if entry.members > 1]),
  local building = 'max %s (patroni:member_building)' % q.by(),
  local synchronous = 'sum %s (%s)' % [q.by(), q.member('patroni:member_synchronous')],

  prometheusAlerts+:: q.groups([{
    name: c.groupNames.cluster,
    rules: [
      // An exporter sees no running leader. While the DCS is down no exporter sees any member; then nodes report only
      // themselves, and in failsafe mode the leader goes on. With etcd v3 Patroni lists its cached members and leader while
      // etcd has no quorum, but the leader reports that it has stepped down; before Patroni 3.2 it does not know its name.
      q.alert(
        'PatroniNoLeader',
        'critical',
        |||
          (
            %(unled)s
            or (
              max %(by)s (%(primary)s + %(standby)s) == 0
              and %(unlocked)s == 1
              unless %(on)s patroni:target_leaders
              unless %(failsafe)s == 1
            )
            or 0 * max %(by)s (
              %(leaders)s == 1
              and %(on_member)s max %(member)s (%(named)s + %(standby)s) == 0
            )
          )
          unless %(paused)s
          unless %(bootstrapping)s
        ||| % {
          unled: unled,
          leaders: leaders,
          on_member: q.on(['name']),
          member: q.by(['name']),
          named: p('patroni_primary', 'name!=""'),
          bootstrapping: q.bootstrapping,
          by: q.by(),
          on: q.on(),
          primary: p('patroni_primary'),
          standby: p('patroni_standby_leader'),
          unlocked: q.cluster(p('patroni_cluster_unlocked')),
          failsafe: q.cluster(p('patroni_failsafe_mode_is_active')),
          paused: paused,
        },
        '%s has no leader' % name,
        'No member of %s leads and runs: clients cannot write.' % name,
        '1m',
      ),
      q.alert(
        'PatroniPausedNoLeader',
        'warning',
        |||
          %s
          and %s
        ||| % [unled, paused],
        '%s is paused and has no leader' % name,
        'No member of %s leads and runs. In maintenance mode Patroni does not fail over.' % name,
        '1m',
      ),
      // Before Patroni 3.2 a node does not know its name; then each target of a job counts as a node.
      q.alert(
        'PatroniMultipleLeaders',
        'critical',
        |||
          count %(by)s (max %(member)s ((%(named)s + %(standby)s) * %(running)s) == 1) > 1
          or max %(by)s (
            count %(job)s (
              max %(member_of_job)s ((%(named)s + %(standby)s) * %(running)s) == 1
              or max %(target)s ((%(unnamed)s + %(standby)s) * %(running)s) == 1
            )
          ) > 1
        ||| % {
          by: q.by(),
          member: q.by(['name']),
          job: q.by(['job']),
          member_of_job: q.by(['name', 'job']),
          target: q.by(['job', 'instance']),
          named: p('patroni_primary', 'name!=""'),
          unnamed: p('patroni_primary', 'name=""'),
          standby: p('patroni_standby_leader'),
          running: p('patroni_postgres_running'),
        },
        '%s has {{ $value }} leaders' % name,
        '{{ $value }} nodes of %s report that they lead and run: their data diverges.' % name,
        '1m',
      ),
      // The node was a primary when it last answered, its Patroni does not answer now, another node is the primary, and
      // Patroni did not report that its PostgreSQL had stopped.
      q.alert(
        'PatroniSplitBrainPossible',
        'critical',
        |||
          %(known)s == 1
          unless %(on_target)s patroni:target_primary
          unless %(on_member)s group %(member)s (patroni:target_primary{name!=""})
          and %(on_scrape)s last_over_time(patroni:target_up[%(memory)s]) == 0
          and %(on)s max %(by)s (patroni:target_primary) == 1
          unless %(on_member)s max %(member)s (last_over_time(patroni:member_up[%(memory)s])) == 0
        ||| % {
          memory: c.clusterMemory,
          known: q.target('patroni:target_known'),
          member: q.by(['name']),
          by: q.by(),
          on_scrape: q.onTarget,
          on_target: q.on(['name', 'job', 'instance']),
          on_member: q.on(['name']),
          on: q.on(),
        },
        'Possible split brain in %s: the former leader is not under control' % name,
        'Patroni of {{ $labels.name }} ({{ $labels.instance }}) has not answered since it led %s, and another node leads: '
        % name + 'PostgreSQL of {{ $labels.name }} may still accept writes.',
        '1m',
      ),
      q.alert(
        'PatroniClusterUnlocked',
        'critical',
        |||
          min %s (%s) == 1
          unless %s
          unless %s
        ||| % [q.by(), p('patroni_cluster_unlocked'), paused, q.bootstrapping],
        '%s has no leader lock' % name,
        'No node of %s sees a holder of the leader lock: there is none, or the DCS is not reachable.' % name,
        '1m',
      ),
      // Not while the exporter in front of all targets is down, and not where the same nodes answer with other labels.
      q.alert(
        'PatroniClusterLost',
        'critical',
        |||
          max %(by)s (
            present_over_time(patroni:target_cluster[%(memory)s])
            unless on (%(job)s) exporter:job_unreachable
          )
          unless %(on)s patroni:target_cluster
          unless %(on)s (
            patroni:target_known
            and on (scope, name, instance) patroni:target_primary
          )
        ||| % { by: q.by(), on: q.on(), memory: c.clusterMemory, job: std.join(', ', c.exporterLabels) },
        'Nothing is known of %s' % name,
        'No target of %s answers: its hosts are down, their exporters are, or its targets were removed.' % name,
        '5m',
      ),
      // Nodes answer, all of them without the leader lock, and none can read the members.
      q.alert(
        'PatroniDCSUnreachable',
        'critical',
        |||
          min %(by)s (%(unlocked)s) == 1
          and %(on)s
          %(cluster)s == 0
        ||| % {
          by: q.by(),
          on: q.on(),
          unlocked: p('patroni_cluster_unlocked'),
          cluster: std.strReplace(std.rstripChars($.collected('cluster'), '\n'), '\n', '\n  '),
        },
        'No node of %s reaches the DCS' % name,
        'No node of %s reaches the DCS. Its leader steps down, unless failsafe mode is on or the cluster is paused.' % name,
        '30s',
        '2m',
      ),
      // While the DCS is down, the configuration may be unknown, so that "enabled" may be absent.
      q.alert(
        'PatroniFailsafeActive',
        'critical',
        |||
          %s == 1
          unless %s == 0
        ||| % [q.cluster(p('patroni_failsafe_mode_is_active')), q.cluster(p('patroni_failsafe_mode_enabled'))],
        '%s runs in failsafe mode' % name,
        'The leader of %s goes on without the DCS. It steps down if one member is lost.' % name,
        '1m',
      ),
      q.alert(
        'PatroniCommitsBlocked',
        'critical',
        |||
          %s == 0
          and %s
          and %s == 1
        ||| % [synchronous, q.cluster('patroni:synchronous'), q.cluster(p('patroni_config_synchronous_mode_strict'))],
        'Commits wait in %s' % name,
        '%s is in strict synchronous mode and has no synchronous standby: no commit returns.' % name,
        '1m',
        c.viewMovesFor,
      ),
      // A replica that is being created is no failure, and in maintenance mode nothing fails over.
      q.alert(
        'PatroniNoFailoverCandidate',
        'warning',
        |||
          %s
          and %s
          unless %s patroni:member_candidate
          unless %s
          unless %s
        ||| % [q.cluster(p('patroni_cluster_members')), several_members, q.on(), building, paused],
        '%s has no replica that could take over' % name,
        'No replica of %s runs with an allowed lag and without nofailover.' % name,
        '5m',
        '5m',
      ),
      q.alert(
        'PatroniTooFewSyncStandbys',
        'warning',
        |||
          %s
          < (%s or %s)
          and %s
          and %s
          unless %s
        ||| % [
          synchronous,
          q.cluster(p('patroni_config_synchronous_node_count')),
          q.cluster('patroni:synchronous'),
          q.cluster('patroni:synchronous'),
          several_members,
          building,
        ],
        '%s has too few synchronous standbys' % name,
        '%s has {{ $value }} synchronous standbys, fewer than its configuration asks for.' % name,
        '5m',
        '5m',
      ),
    ] + (
      if c.expectedMembers == [] then [] else [q.alert(
        'PatroniTooFewMembers',
        'warning',
        std.join('\nor ', [
          '%s < %d' % [q.cluster(p('patroni_cluster_members', entry.match)), entry.members]
          for entry in c.expectedMembers
        ]),
        '%s has too few members' % name,
        '%s has {{ $value }} members, fewer than expected.' % name,
        '5m',
        c.viewMovesFor,
      )]
    ) + q.perDuration(
      // One scrape without an answer does not end it.
      function(match) q.cluster('last_over_time(%s[5m])' % p('patroni_cluster_paused', match)),
      'pausedFor',
      function(expr, duration) q.alert(
        'PatroniPaused',
        'warning',
        '(%s) == 1' % expr,
        '%s is still in maintenance mode' % name,
        '%s has been paused for more than %s: it does not fail over.' % [name, duration],
        duration,
      )
    ) + [
      // A member that led and follows since has handed over. One that led and was not seen again as a replica has failed.
      q.alert(
        'PatroniFailover',
        'warning',
        |||
          max_over_time(timestamp(%(leaders)s == 1)[15m:])
          unless %(leaders)s == 1
          unless (
            max_over_time(timestamp(%(following)s == 1)[15m:])
            > max_over_time(timestamp(%(leaders)s == 1)[15m:])
          )
          and %(on)s %(leaders)s == 1
        ||| % { leaders: leaders, following: q.member('patroni:member_following'), on: q.on() },
        '%s failed over from {{ $labels.name }}' % name,
        '{{ $labels.name }} led %s. Another member leads now, and {{ $labels.name }} has not returned as a replica.' % name,
        '1m',
      ),
      q.alert(
        'PatroniLeaderFlapping',
        'warning',
        q.compare(
          function(match)
            local series = 'patroni:member_leader%s[1h]' % (if match == '' then '' else '{%s}' % match);
            'sum %s (max %s (changes(%s) - resets(%s)))' % [q.by(), q.by(['name']), series, series],
          '>=',
          'leaderChangesPerHour'
        ),
        'The leader of %s changes again and again' % name,
        'Leadership of %s was taken {{ $value }} times in the last hour.' % name,
      ),
      q.alert(
        'PatroniConfigUnknown',
        'warning',
        $.collected('config') + '== 0\n',
        'The configuration of %s is not known' % name,
        'No node of %s returns its dynamic configuration: alerts on synchronous standbys are blind.' % name,
        '15m',
        c.viewMovesFor,
      ),
      // Exporters of one cluster list the same members with the same addresses.
      q.alert(
        'PatroniScopeNotUnique',
        'warning',
        |||
          count %(by)s (group %(member)s (%(info)s)) > %(members)s
          or count %(by)s (count %(member)s (group %(address)s (%(info)s)) > 1)
        ||| % {
          by: q.by(),
          member: q.by(['name']),
          address: q.by(['name', 'host', 'port']),
          info: p('patroni_member_info'),
          members: q.cluster(p('patroni_cluster_members')),
        },
        'Two clusters are named %s' % name,
        'Exporters report different members for %s: two clusters have the same labels, and alerts mix them.' % name,
        '15m',
        c.viewMovesFor,
      ),
      // This one announces what has not happened yet, so that someone can cancel it.
      q.alert(
        'PatroniSwitchoverScheduled',
        'info',
        q.compare(
          function(match)
            'max %s (%s) - time()' % [
              q.by(['from', 'to']),
              p('patroni_cluster_scheduled_switchover_timestamp_seconds', match),
            ],
          '<',
          'switchoverAheadSeconds'
        ),
        '%s will switch over' % name,
        'A switchover of %s from {{ $labels.from }} is scheduled in {{ $value | humanizeDuration }}.' % name,
      ),
      q.alert(
        'PatroniVersionsDiffer',
        'info',
        '%s != min %s (%s)' % [q.cluster(p('patroni_version')), q.by(), p('patroni_version')],
        '%s runs several versions of Patroni' % name,
        'The newest Patroni of %s is {{ $value }}, and not all nodes run it.' % name,
        '1h',
      ),
    ],
  }]),
}
