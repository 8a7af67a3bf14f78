{ prometheusAlerts+:: { groups: [] } }
+ (import 'exporter.libsonnet')
+ (import 'cluster.libsonnet')
+ (import 'members.libsonnet')
+ (import 'staytus.libsonnet')
