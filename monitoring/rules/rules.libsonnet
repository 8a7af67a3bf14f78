// What the alerts and the dashboards read. Every exporter reports all members of its cluster; here each cluster and each
// member is there once.
{
  local c = $._config,
  local q = (import '../promql.libsonnet')(c),
  local p = q.patroni,
  local up = 'running|streaming|in archive recovery',

  prometheusRules+:: q.groups([
    {
      // What is remembered for days. An interval of its own keeps that cheap; only ranges are read from it.
      name: c.groupNames.memory,
      interval: '10m',
      rules: [
        q.record('patroni:member_listed', q.member(p('patroni_member_info'))),
        q.record('patroni:members_listed', q.cluster(p('patroni_cluster_members'))),
        q.record('exporter:target_listed', 'group %s (%s or %s)' % [q.byTarget(), p('patroni_up'), q.staytus('staytus_up')]),
        q.record('exporter:build_listed', 'group %s (patroni_staytus_exporter_build_info or exporter_build_info)' % q.byTarget()),
      ],
    },
    {
      name: c.groupNames.views,
      rules: [
        // 1 for the member that leads its cluster, in a standby cluster too, else 0.
        q.record('patroni:member_leader', q.member(p('patroni_member_role', 'role=~"leader|standby_leader"'))),

        // 1 for a synchronous standby, else 0.
        q.record('patroni:member_synchronous', q.member(p('patroni_member_role', 'role=~"sync_standby|quorum_standby"'))),

        // 1 for a member whose PostgreSQL runs, else 0.
        q.record('patroni:member_up', |||
          %(up)s
          or 0 * %(all)s
        ||| % {
          up: q.member(p('patroni_member_state', 'state=~"%s"' % up)),
          all: q.member(p('patroni_member_state')),
        }),

        // 1 for a member that follows, else 0.
        q.record('patroni:member_following', '%s * (1 - %s)' % [q.member('patroni:member_up'), q.member('patroni:member_leader')]),

        // 1 for a member that is being created, else absent; Patroni wrote "initalizing" before 3.0.2.
        q.record('patroni:member_building', q.member(p(
          'patroni_member_state',
          'state=~"creating replica|initi?alizing new cluster|.*custom bootstrap.*",state!~".*failed"'
        ))),

        // 1 for a cluster in maintenance mode, else 0.
        q.record('patroni:cluster_paused', q.cluster('%s or %s' % [p('patroni_cluster_paused'), p('patroni_is_paused')])),

        // 1 for a cluster that replicates synchronously; a standby cluster never does.
        q.record('patroni:synchronous', |||
          %s == 1
          unless %s == 1
        ||| % [
          q.cluster(p('patroni_config_synchronous_mode', 'mode=~"on|quorum"')),
          q.cluster(p('patroni_config_standby_cluster')),
        ]),

        // How many running leaders each exporter sees, 0 where the cluster lists no member. Exporters of one cluster agree;
        // those of two clusters with the same labels do not.
        q.record('patroni:target_leaders', |||
          sum %(target)s (
            max %(member)s (%(leader)s)
            * (
              max %(member)s (%(up)s)
              or 0 * max %(member)s (%(state)s)
            )
          )
          or 0 * max %(target)s (%(members)s)
        ||| % {
          members: p('patroni_cluster_members'),
          target: q.by(['job', 'instance']),
          member: q.by(['name', 'job', 'instance']),
          leader: p('patroni_member_role', 'role=~"leader|standby_leader"'),
          up: p('patroni_member_state', 'state=~"%s"' % up),
          state: p('patroni_member_state'),
        }),

        // The targets of each cluster that answer, and of each node that answers whether it is a primary.
        q.record('patroni:target_cluster', 'group %s (%s or %s)' % [
          q.by(c.exporterLabels + ['job', 'instance']),
          p('patroni_version'),
          p('patroni_cluster_members'),
        ]),
        q.record('patroni:target_primary', q.target(p('patroni_primary'))),
        q.record('patroni:target_up', 'max %s (%s)' % [q.byTarget(), p('patroni_up')]),

        // The targets that are remembered: whether the node was a primary when it last answered.
        q.record('patroni:target_known', q.target('last_over_time(patroni:target_primary[%s])' % c.clusterMemory)),

        // The targets that are remembered as targets of an exporter, and those that are an exporter: a target that is
        // probed through an exporter has no exporter_build_info, which is the name of version 1.
        q.record('exporter:target_known', 'group %s (%s)' % [q.byTarget(), std.join(' or ', [
          'present_over_time(exporter:target_listed[%s])' % c.clusterMemory,
          'present_over_time(%s[15m])' % p('patroni_up'),
          'present_over_time(%s[15m])' % q.staytus('staytus_up'),
        ])]),
        q.record('exporter:build_known', 'group %s (%s)' % [q.byTarget(), std.join(' or ', [
          'present_over_time(exporter:build_listed[%s])' % c.clusterMemory,
          'present_over_time(patroni_staytus_exporter_build_info[15m])',
          'present_over_time(exporter_build_info[15m])',
        ])]),

        // 0 for a job of which no probe is answered, or no target has ever been answered: the exporter in front of all its
        // targets is down. Else absent.
        q.record('exporter:job_unreachable', |||
          max by (%(job)s) (
            up
            and %(on)s exporter:target_known
            unless %(on)s exporter:build_known
          ) == 0
          or max by (%(job)s) (
            up{job=~"%(jobs)s"}
            unless on (%(job)s) exporter:target_known
            unless on (%(job)s) exporter:build_known
          ) == 0
        ||| % { job: std.join(', ', c.exporterLabels), on: q.onTarget, jobs: c.exporterJobs }),

        // The members that are remembered, and the greatest number of members that a cluster had.
        q.record('patroni:member_known', 'group %s (present_over_time(patroni:member_listed[%s]) or present_over_time(%s[15m]))' % [
          q.by(['name']),
          c.memberMemory,
          p('patroni_member_info'),
        ]),
        q.record('patroni:members_known', q.cluster('max_over_time(patroni:members_listed[%s]) or max_over_time(%s[15m])' % [
          c.memberMemory,
          p('patroni_cluster_members'),
        ])),

        // Bytes a second that the primary writes; a node that was promoted in between does not count.
        q.record('patroni:cluster_wal_bytes:rate5m', q.cluster(
          'rate(%(lsn)s[5m]) and min_over_time(%(lsn)s[5m]) > 0' % { lsn: p('patroni_xlog_location') }
        )),

        // Bytes that a standby leader is behind its source, where this Prometheus knows the source: it has the same
        // database_system_identifier. Else the bytes that it received and did not replay.
        q.record('patroni:standby_leader_lag_bytes', |||
          %(member)s (
            clamp_min(
              max by (database_system_identifier) (
                (%(location)s > 0) * %(on)s group_left (database_system_identifier) %(system)s
              )
              - on (database_system_identifier) group_right ()
              max %(standby)s (
                (%(replayed)s and %(leader)s == 1)
                * %(on)s group_left (database_system_identifier) %(system)s
              ),
              0
            )
          )
          or %(member)s (clamp_min(%(received)s - %(replayed)s, 0) and %(leader)s == 1)
        ||| % {
          member: 'max %s' % q.by(['name']),
          standby: q.by(['name', 'database_system_identifier']),
          on: q.onTarget,
          system: 'max %s (%s)' % [q.byTarget(', database_system_identifier'), p('patroni_postgresql_info')],
          location: p('patroni_xlog_location'),
          received: p('patroni_xlog_received_location'),
          replayed: p('patroni_xlog_replayed_location'),
          leader: p('patroni_standby_leader'),
        }),

        // Bytes that a member has not replayed yet: from Patroni 4.1, from the member's own exporter since 3.2. Else what it
        // has not received.
        q.record('patroni:member_lag_bytes', |||
          %(replay)s
          or %(lag)s + %(behind)s
          or %(lag)s
          or %(standby)s
        ||| % {
          replay: q.member(p('patroni_member_replay_lag_bytes')),
          lag: q.member(p('patroni_member_lag_bytes')),
          behind: q.member('clamp_min(%s - %s, 0)' % [
            p('patroni_xlog_received_location', 'name!=""'),
            p('patroni_xlog_replayed_location'),
          ]),
          standby: q.member('patroni:standby_leader_lag_bytes'),
        }),

        // Seconds since the last replayed transaction was committed, 0 where the lag is not worth it. Since Patroni 3.2.
        q.record('patroni:member_lag_seconds', |||
          %s
          * (%s > bool %s)
        ||| % [
          q.member('clamp_min(timestamp(%(at)s) - (%(at)s > 0), 0)' % { at: p('patroni_xlog_replayed_timestamp', 'name!=""') }),
          q.member('patroni:member_lag_bytes'),
          c.lagSecondsFromBytes,
        ]),

        // Whether the lag of a member that follows is known: 1 or 0. Without a running leader there is no lag.
        q.record('patroni:member_lag_known', |||
          %(following)s and %(lag)s
          or 0 * (%(following)s)
        ||| % {
          following: '(%s == 1 and %s max %s (patroni:target_leaders) > 0)' % [q.member('patroni:member_following'), q.on(), q.by()],
          lag: q.member('patroni:member_lag_bytes'),
        }),

        // 1 for a replica that streams (before Patroni 3.0.4: runs) on the leader's timeline with less than lagBytes of lag, else 0.
        q.record('patroni:replica_healthy', |||
          %(following)s == 1
          unless (%(running)s and %(on)s min %(by)s (%(version)s) >= 30004 unless %(streaming)s)
          unless %(archive)s
          unless (%(timeline)s != %(on)s group_left () max %(by)s (%(timeline)s and %(leader)s == 1))
          unless (%(lag)s)
          and %(known)s
          or 0 * (%(leader)s == 0)
        ||| % {
          local state(value) = q.member(p('patroni_member_state', 'state="%s"' % value)),
          following: q.member('patroni:member_following'),
          on: q.on(),
          by: q.by(),
          running: state('running'),
          streaming: state('streaming'),
          archive: state('in archive recovery'),
          version: p('patroni_version'),
          timeline: q.member(p('patroni_member_timeline')),
          leader: q.member('patroni:member_leader'),
          lag: q.compare(
            function(match) q.member('patroni:member_lag_bytes%s' % (if match == '' then '' else '{%s}' % match)), '>', 'lagBytes'
          ),
          known: q.member('patroni:member_lag_bytes'),
        }),

        // Bytes that a replica can be behind and still take over: maximum_lag_on_failover (Patroni's default is 1 MiB), or
        // candidateLagBytes and what the leader writes in two rounds of the HA loop, whichever is greater.
        q.record('patroni:candidate_lag_limit_bytes', |||
          (%(maximum)s or 0 * %(members)s + 1048576)
          > (%(allowance)s)
          or (%(allowance)s)
        ||| % {
          local members(match) = q.cluster(p('patroni_cluster_members', match)),
          maximum: q.cluster(p('patroni_config_maximum_lag_on_failover_bytes')),
          members: members(''),
          allowance: '(%s) + (2 * (%s or 0 * %s + 10) * %s or 0 * %s)' % [
            std.join(' or ', [
              '0 * %s + %s' % [members(entry.match), entry.candidateLagBytes]
              for entry in c.perCluster
              if std.objectHas(entry, 'candidateLagBytes')
            ] + ['0 * %s + %s' % [members(''), c.candidateLagBytes]]),
            q.cluster(p('patroni_config_loop_wait_seconds')),
            members(''),
            q.cluster('patroni:cluster_wal_bytes:rate5m'),
            members(''),
          ],
        }),

        // 1 for a member that could take over: it runs, its lag is allowed, no tag forbids it, and where replication is
        // synchronous it is a synchronous standby.
        q.record('patroni:member_candidate', |||
          %(following)s == 1
          and (%(lag)s <= %(on)s group_left () %(limit)s)
          unless %(nofailover)s
          unless %(priority)s
          unless (%(synchronous)s == 0 and %(on)s %(mode)s)
        ||| % {
          on: q.on(),
          following: q.member('patroni:member_following'),
          lag: q.member(p('patroni_member_lag_bytes')),
          limit: q.cluster('patroni:candidate_lag_limit_bytes'),
          nofailover: q.member(p('patroni_member_tag_info', 'tag="nofailover",value=~"(?i:true|on|yes|1)"')),
          priority: q.member(p('patroni_member_tag_info', 'tag="failover_priority",value=~"0|-.*"')),
          synchronous: q.member('patroni:member_synchronous'),
          mode: q.cluster('patroni:synchronous'),
        }),
      ],
    },
  ]),
}
