//! The table of routes: the router and its description, made of the same lines.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, RefOr, Required, ResponseBuilder,
};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::failure::ErrorBody;
use super::{Api, caller};
use crate::api::scope::Scope;
use crate::roles::Action;

/// Who may ask for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody.
    Public,
    /// Whoever has a token.
    Holder,
    /// Whoever has a token of an account.
    Person,
    /// An owner of the installation.
    Owner,
    /// Whoever may do this in the project that the address names.
    In(Action),
}

/// A route under construction.
pub(super) struct Route {
    path: &'static str,
    method: Method,
    who: Who,
    operation: OperationBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// The methods that are used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// All routes.
pub(super) struct Routes {
    api: Api,
    router: Router<Api>,
    paths: PathsBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Route {
    /// `summary` says in a sentence what it does.
    pub(super) fn new(method: Method, path: &'static str, who: Who, summary: &str) -> Self {
        let name = format!("{method:?} {path}").to_lowercase();
        let id: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let group = path.split('/').find(|part| !part.is_empty() && !part.starts_with('{')).unwrap_or("root");
        let mut operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary)).tag(group);
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let string = ObjectBuilder::new().schema_type(Type::String);
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
            operation = operation.parameter(parameter.required(Required::True).schema(Some(string)));
        }
        let error = Ref::from_schema_name(ErrorBody::name());
        let failure = ResponseBuilder::new().description("What is wrong and the mend, in one line");
        let failure = failure.content("application/json", ContentBuilder::new().schema(Some(error)).build());
        operation = operation.response("4XX", failure);
        if who != Who::Public {
            operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>("bearer", []));
        }
        if let Who::In(action) = who {
            let needs = format!("Needs the scope `{}`.", Scope::of(action).name());
            operation = operation.description(Some(needs));
        }
        Self { path, method, who, operation, schemas: Vec::new() }
    }

    /// What stands behind the `?`.
    pub(super) fn query<T: IntoParams>(mut self) -> Self {
        for parameter in T::into_params(|| Some(ParameterIn::Query)) {
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    /// The JSON body.
    pub(super) fn body<T: ToSchema>(mut self) -> Self {
        let schema = self.schema::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let body = RequestBodyBuilder::new().content("application/json", content);
        self.operation = self.operation.request_body(Some(body.required(Some(Required::True)).build()));
        self
    }

    /// A body of other types than JSON.
    pub(super) fn text_body(mut self, types: &[&str]) -> Self {
        let content = || {
            let string = ObjectBuilder::new().schema_type(Type::String);
            ContentBuilder::new().schema(Some(string)).build()
        };
        let body = types.iter().fold(RequestBodyBuilder::new(), |body, kind| body.content(*kind, content()));
        self.operation = self.operation.request_body(Some(body.required(Some(Required::True)).build()));
        self
    }

    /// The answer.
    pub(super) fn answer<T: ToSchema>(mut self) -> Self {
        let schema = self.schema::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description("Done").content("application/json", content);
        self.operation = self.operation.response("200", response);
        self
    }

    /// An answer of another type than JSON.
    pub(super) fn text_answer(mut self, kind: &str) -> Self {
        let string = ObjectBuilder::new().schema_type(Type::String);
        let content = ContentBuilder::new().schema(Some(string)).build();
        let response = ResponseBuilder::new().description("Done").content(kind, content);
        self.operation = self.operation.response("200", response);
        self
    }

    fn schema<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        RefOr::Ref(Ref::from_schema_name(T::name()))
    }

    /// What answers it.
    pub(super) fn to<H, T>(self, routes: &mut Routes, handler: H)
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let (filter, method) = match self.method {
            Method::Get => (MethodFilter::GET, HttpMethod::Get),
            Method::Post => (MethodFilter::POST, HttpMethod::Post),
            Method::Put => (MethodFilter::PUT, HttpMethod::Put),
            Method::Patch => (MethodFilter::PATCH, HttpMethod::Patch),
            Method::Delete => (MethodFilter::DELETE, HttpMethod::Delete),
        };
        routes.add(self, method, on(filter, handler));
    }
}

impl Routes {
    pub(super) fn new(api: Api) -> Self {
        let error = (ErrorBody::name().into_owned(), ErrorBody::schema());
        Self { api, router: Router::new(), paths: PathsBuilder::new(), schemas: vec![error] }
    }

    fn add(&mut self, route: Route, method: HttpMethod, handler: MethodRouter<Api>) {
        let Route { path, who, operation, schemas, .. } = route;
        let handler = match who {
            Who::Public => handler,
            who => handler.route_layer(from_fn_with_state((self.api.clone(), who), caller::check)),
        };
        self.schemas.extend(schemas);
        let operation: Operation = operation.build();
        let paths = std::mem::take(&mut self.paths);
        self.paths = paths.path(format!("/api/v1{path}"), PathItem::new(method, operation));
        self.router = std::mem::take(&mut self.router).route(path, handler);
    }

    /// The router and its description.
    pub(super) fn finish(self) -> (Router<Api>, OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components =
            ComponentsBuilder::new().schemas_from_iter(self.schemas).security_scheme("bearer", bearer);
        let info = InfoBuilder::new().title("Pavlov feedback").version("1").description(Some(
            "All that pages do, for programs. Every failure is {\"error\": \"one line with the mend\"}.",
        ));
        let document =
            OpenApiBuilder::new().info(info).paths(self.paths).components(Some(components.build()));
        (self.router, document.build())
    }
}
