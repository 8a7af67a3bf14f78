"""Staytus: services by status, open issues, and whether it answers."""

from grafana_foundation_sdk.builders.dashboard import Row

from monitoring.grafana.board import Board, choice, dashboard, moments
from monitoring.grafana.panels import (
    ALARM_FROM_1,
    WARN_FROM_1,
    YES_IS_VITAL,
    Column,
    figure,
    lines,
    rows,
    states_over_time,
)

STATUSES = {
    0: ("ok", "green"),
    1: ("maintenance", "blue"),
    2: ("minor", "orange"),
    3: ("major", "red"),
}
STATUS_NUMBER = "max by (service_permalink) (" + " or ".join(
    f'(service_status{{instance=~"$instance",service_status="{status}"}} == 1) * {number}'
    for number, (status, _) in STATUSES.items()
) + ")"  # fmt: skip

SERVICES = (
    Column(
        "Permalink",
        'max by (service_permalink) (staytus_service_info{instance=~"$instance"})',
        shows="service_permalink",
    ),
    Column("Service", 'max by (service_permalink, name) (staytus_service_info{instance=~"$instance"})', shows="name"),
    Column("Status", STATUS_NUMBER, states=STATUSES),
    Column(
        "In the site's words",
        'max by (service_permalink, status_name) (staytus_service_info{instance=~"$instance"})',
        shows="status_name",
    ),
)

ISSUES = (
    Column("Identifier", 'max by (identifier) (staytus_open_issue_info{instance=~"$instance"})', shows="identifier"),
    Column("Issue", 'max by (identifier, title) (staytus_open_issue_info{instance=~"$instance"})', shows="title"),
    Column("State", 'max by (identifier, state) (staytus_open_issue_info{instance=~"$instance"})', shows="state"),
    Column("Status", 'max by (identifier, status) (staytus_open_issue_info{instance=~"$instance"})', shows="status"),
    Column(
        "Created",
        'max by (identifier) (staytus_open_issue_created_timestamp_seconds{instance=~"$instance"}) * 1000',
        unit="dateTimeFromNow",
    ),
    Column(
        "Updated",
        'max by (identifier) (staytus_open_issue_updated_timestamp_seconds{instance=~"$instance"}) * 1000',
        unit="dateTimeFromNow",
    ),
)


def with_status(status: str) -> str:
    """Returns the query for how many services have this type of status."""
    return (
        "count(max by (service_permalink) "
        f'(service_status{{instance=~"$instance",service_status="{status}"}}) == 1) or vector(0)'
    )


def staytus() -> Board:
    """Returns the dashboard of Staytus."""
    return (
        dashboard(
            "Staytus",
            "staytus",
            "Services by status, open issues, and whether Staytus answers the exporter.",
            "staytus_up",
        )
        .with_variable(choice("instance", "Exporter", "label_values(staytus_up{}, instance)", many=True))
        .annotation(
            moments(
                "Issues",
                'max by (identifier, title) (staytus_open_issue_info{instance=~"$instance"}) * on (identifier) '
                'group_left max by (identifier) (staytus_open_issue_created_timestamp_seconds{instance=~"$instance"})'
                " * 1000",
                "Issue opened",
                "{{title}}",
            )
        )
        .with_panels(
            figure(
                "Healthy",
                "Whether Staytus answered all selected exporters.",
                ('min(staytus_health{staytus_health="healthy",instance=~"$instance"})', ""),
                states=YES_IS_VITAL,
            ),
            figure("Ok", "Services whose status is ok.", (with_status("ok"), "")),
            figure("Maintenance", "Services in maintenance.", (with_status("maintenance"), ""), steps=WARN_FROM_1),
            figure("Minor", "Services with a minor outage.", (with_status("minor"), ""), steps=WARN_FROM_1),
            figure("Major", "Services with a major outage.", (with_status("major"), ""), steps=ALARM_FROM_1),
            figure(
                "Open issues",
                "Issues that are not resolved.",
                ('sum(max by (state) (staytus_issues{instance=~"$instance",state!="resolved"})) or vector(0)', ""),
                steps=WARN_FROM_1,
            ),
            rows("Services", "One row for each service.", SERVICES, height=10, none="-"),
            rows("Open issues", "The newest 100 issues that are not resolved.", ISSUES, height=8, none="none"),
        )
        .with_row(Row("Over time"))
        .with_panels(
            states_over_time(
                "Services", "The status of each service.", STATUS_NUMBER, "{{service_permalink}}", STATUSES
            ),
            lines(
                "Open issues",
                "Issues that are not resolved, by their state.",
                ('max by (state) (staytus_issues{instance=~"$instance",state!="resolved"})', "{{state}}"),
                steps=True,
            ),
            lines(
                "Answers",
                "1 when the exporter reads the document, else 0.",
                (
                    'min by (instance, collector) (staytus_scrape_collector_success{instance=~"$instance"})',
                    "{{collector}} to {{instance}}",
                ),
                steps=True,
            ),
            lines(
                "Time to answer",
                "Seconds until the document was read, or the exporter gave up.",
                (
                    'max by (instance, collector) (staytus_scrape_collector_duration_seconds{instance=~"$instance"})',
                    "{{collector}} to {{instance}}",
                ),
                unit="s",
            ),
        )
    )
