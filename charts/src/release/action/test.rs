//! Tests: the hooks of the event `test`, run against what is deployed.

use crate::release::{
    Error, hooks,
    record::{Event, Release, Status},
    storage,
};

use super::Action;

/// Which tests run.
#[derive(Clone, Debug, Default)]
pub struct Tests {
    /// If not empty, only these.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// Shows what the tests' pods wrote.
    pub logs: bool,
}

impl Action<'_> {
    /// Runs the tests of a release; answers its record, with the error of the test that failed.
    ///
    /// # Errors
    /// When there is no such release or it is not deployed.
    pub async fn test(&self, tests: &Tests) -> Result<(Release, Result<(), Error>), Error> {
        self.alone(|_| async move {
            let history = self.take_up().await?;
            let mut release = history.into_iter().last().ok_or(Error::NotFound)?;
            if release.info.status != Status::Deployed {
                return Err(Error::Refused(format!(
                    "release {:?} is {}, not deployed",
                    self.name, release.info.status
                )));
            }
            let order: Vec<usize> = hooks::order(&release.hooks, Event::Test)
                .into_iter()
                .filter(|index| {
                    let name = &release.hooks[*index].name;
                    (tests.include.is_empty() || tests.include.contains(name))
                        && !tests.exclude.contains(name)
                })
                .collect();
            let result = self.run_hooks(&mut release, Event::Test, &order).await;
            storage::update(self.cluster, &release).await?;
            if tests.logs {
                for index in order {
                    let hook = &release.hooks[index];
                    let objects = crate::release::manifest::objects(&hook.manifest)?;
                    for object in objects {
                        let scope = crate::release::cluster::Scope::Namespaced;
                        let id = object.id(scope, self.namespace);
                        self.show_logs_of(&hook.name, &id).await;
                    }
                }
            }
            Ok((release, result))
        })
        .await
    }
}
