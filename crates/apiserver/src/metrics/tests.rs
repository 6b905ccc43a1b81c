use http::Method;

use super::*;
use crate::http::body;
use crate::request_info::RequestInfo;

fn told(metrics: &Metrics) -> String {
    let mut text = Text::default();
    metrics.write(&mut text);
    text.finish()
}

fn ask(metrics: &Metrics, method: &Method, uri: &str, code: u16) -> http::Response<crate::extension::Body> {
    let info = RequestInfo::of(method, &uri.parse().unwrap());
    let answer = http::Response::builder().status(code).body(body::full(bytes::Bytes::new())).unwrap();
    metrics.requests.answered(&info, code != 404, Instant::now(), answer)
}

#[test]
fn requests_are_counted_by_what_they_ask_for() {
    let metrics = Metrics::default();
    for _ in 0..2 {
        ask(&metrics, &Method::GET, "/api/v1/namespaces/a/pods/p", 200);
    }
    ask(&metrics, &Method::POST, "/apis/apps/v1/namespaces/a/deployments?dryRun=All", 201);
    for name in ["a", "b", "c"] {
        ask(&metrics, &Method::GET, &format!("/apis/{name}.example.com/v1/{name}"), 404);
    }
    let text = told(&metrics);
    for line in [
        "apiserver_request_total{verb=\"GET\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",\
         scope=\"resource\",component=\"apiserver\",code=\"200\"} 2",
        "apiserver_request_total{verb=\"POST\",dry_run=\"All\",group=\"apps\",version=\"v1\",resource=\"deployments\",\
         subresource=\"\",scope=\"namespace\",component=\"apiserver\",code=\"201\"} 1",
        "apiserver_request_duration_seconds_count{verb=\"GET\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"pods\",\
         subresource=\"\",scope=\"resource\",component=\"apiserver\"} 2",
        "apiserver_request_total{verb=\"LIST\",dry_run=\"\",group=\"\",version=\"\",resource=\"\",subresource=\"\",\
         scope=\"\",component=\"apiserver\",code=\"404\"} 3",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("example.com"), "what clients invent is no label");
}

#[test]
fn a_watch_runs_as_long_as_its_body() {
    let metrics = Metrics::default();
    let line = "apiserver_longrunning_requests{verb=\"WATCH\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",\
                scope=\"cluster\",component=\"apiserver\"} 1";
    let watch = ask(&metrics, &Method::GET, "/api/v1/pods?watch=true", 200);
    assert!(told(&metrics).contains(line));
    drop(watch);
    assert!(!told(&metrics).contains("apiserver_longrunning_requests{"));
}

#[test]
fn buckets_add_up() {
    let histogram = Histogram::new(&ADMISSION_BUCKETS);
    for milliseconds in [1, 10, 50, 10_000] {
        histogram.observe(Duration::from_millis(milliseconds));
    }
    let mut text = Text::default();
    histogram.write(&mut text, "x", &[("a", "b\"c")]);
    let text = text.finish();
    for line in [
        "x_bucket{a=\"b\\\"c\",le=\"0.005\"} 1\n",
        "x_bucket{a=\"b\\\"c\",le=\"0.1\"} 3\n",
        "x_bucket{a=\"b\\\"c\",le=\"+Inf\"} 4\n",
        "x_count{a=\"b\\\"c\"} 4\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn this_process_is_told_of() {
    let text = told(&Metrics::default());
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"] {
        assert!(text.contains(&format!("\n{name} ")), "{name}\n{text}");
    }
    assert!(text.contains("kubernetes_build_info{major=\"1\""));
}
